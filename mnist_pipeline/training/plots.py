"""Numbers → matplotlib figures, without pyplot and its global state."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from mnist_pipeline.data.schema import DIGITS
from mnist_pipeline.interval import wilson
from mnist_pipeline.text import figure_text, percent
from mnist_pipeline.training.evaluation import ReliabilityBin
from mnist_pipeline.training.loop import Epoch

BLUE, RED = "#2a6fb0", "#b3261e"
# Okabe and Ito's colours, which the colour-blind can tell apart, and lines that everyone can
STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "#0072b2", "linestyle": "-"},
    "validation": {"color": "#00795c", "linestyle": "--"},
    "test": {"color": "#c04e00", "linestyle": "-."},
}
MISTAKES = LinearSegmentedColormap.from_list("mistakes", ["white", "tomato"])  # black text can be read on all of it


def predictions(
    images: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str] = DIGITS
) -> Figure:
    """Draw ten images (10, H, W) in two rows of five, each under its label and its predicted class."""
    names = shorten(classes)
    titles = [f"Label: {names[label]}, Predict: {names[guess]}" for label, guess in zip(labels, predicted, strict=True)]
    return _gallery("MLP INFERENCE RESULTS", images, titles, np.where(labels == predicted, "black", RED))


def curves(epochs: Sequence[Epoch], best_epoch: int | None = None) -> Figure:
    """Draw the loss and the accuracy after each epoch, on each set that was scored; `best_epoch` is marked."""
    scored = {
        "test": [(epoch.number, epoch.test) for epoch in epochs if epoch.test],
        "validation": [(epoch.number, epoch.val) for epoch in epochs if epoch.val],
    }
    losses = {"train": [(epoch.number, epoch.train_loss) for epoch in epochs]}
    losses |= {name: [(number, each.loss) for number, each in scores] for name, scores in scored.items()}
    accuracies = {name: [(number, each.accuracy) for number, each in scores] for name, scores in scored.items()}
    panels = {"Mean cross-entropy": losses} | ({"Accuracy": accuracies} if any(accuracies.values()) else {})
    figure = Figure(figsize=(6, 3 * len(panels)))  # with margins by hand: a layout engine draws everything twice
    margins = {"left": 0.12, "right": 0.83, "bottom": 0.15 / len(panels), "top": 1 - 0.1 / len(panels), "hspace": 0.22}
    grid = figure.subplots(len(panels), sharex=True, squeeze=False, gridspec_kw=margins).ravel()
    for axes, (name, lines) in zip(grid, panels.items(), strict=True):
        axes.set_title(name, loc="left", fontsize="medium")
        _draw_lines(axes, lines, percent if name == "Accuracy" else "{:.3f}".format)
        if name == "Accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
            axes.set_ylim(top=min(1, axes.get_ylim()[1]))
        if best_epoch:
            axes.axvline(best_epoch, color="grey", linestyle=":", zorder=0)
    if best_epoch:
        grid[0].set_title(f"best epoch: {best_epoch}", loc="right", fontsize="medium", color="dimgrey")
    grid[-1].set_xlabel("Epoch")
    grid[-1].set_xlim(0.5, len(epochs) + 0.5)
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _draw_lines(axes: Axes, lines: Mapping[str, Sequence[tuple[int, float]]], number: Callable[[float], str]) -> None:
    """Draw lines, each with its name and its last `number` beside its end."""
    lines = {name: points for name, points in lines.items() if points}
    marker: dict[str, Any] = {"marker": "o", "markersize": 4} if max(map(len, lines.values())) <= 15 else {}
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), linewidth=1.8, **STYLES[name], **marker)
    axes.margins(y=0.1)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0) if high > 2 * low else low, high)
    low, high = axes.get_ylim()
    ends = sorted((points[-1][1], name) for name, points in lines.items())
    places = [value for value, _ in ends]
    gap = 0.18 * (high - low)  # two lines of text
    for below, above in pairwise(range(len(places))):
        places[above] = max(places[above], places[below] + gap)
    too_high = max(0, places[-1] - high)
    for place, (value, name) in zip(places, ends, strict=True):
        text = f"{name}\n{number(value)}"
        axes.text(
            1.02, place - too_high, text, transform=axes.get_yaxis_transform(), color=STYLES[name]["color"], va="center"
        )
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def reliability(bins: Sequence[ReliabilityBin]) -> Figure:
    """Draw how often predictions of each confidence are right, with 95 % intervals, and how many there are of each."""
    confidence, accuracy, counts = zip(*((each.confidence, each.accuracy, each.count) for each in bins), strict=True)
    ends = [wilson(round(share * count), count) for share, count in zip(accuracy, counts, strict=True)]
    lengths = np.abs(np.array(ends).T - accuracy)
    figure = Figure(figsize=(6, 6))
    margins = {"left": 0.13, "right": 0.96, "bottom": 0.09, "top": 0.97, "hspace": 0.06}
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1], gridspec_kw=margins)
    upper.plot([0, 1], [0, 1], color="grey", linestyle=":")
    upper.text(0.03, 0.06, "right as often as confident", color="dimgrey", rotation=37, rotation_mode="anchor")
    upper.errorbar(confidence, accuracy, lengths, fmt="o", color=BLUE, capsize=3)
    upper.set(ylabel="Right (95 % interval)", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))  # no mark is cut off
    bars = lower.bar(confidence, counts, width=0.045, color=BLUE)
    lower.bar_label(bars, fmt="{:,.0f}", rotation=90, padding=3, fontsize="small")
    lower.set(xlabel="Confidence (the highest probability)", ylabel="Images (log scale)", yscale="log")
    lower.set_ylim(0.7, 200 * max(counts))  # with room for the counts
    lower.yaxis.set_major_locator(NullLocator())
    lower.yaxis.set_minor_locator(NullLocator())
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    upper.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    upper.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    return figure


def contact_sheet(title: str, images: np.ndarray, titles: Sequence[str], *, wins: int) -> Figure:
    """Draw images (N, H, W) in rows of five, each under its title: blue for the first `wins`, red for the others."""
    colors = [BLUE if row < wins else RED for row in range(len(images))]
    return _gallery(title, images, titles, colors, rows=-(-len(images) // 5))


def confusion_matrix(counts: np.ndarray, classes: Sequence[str] = DIGITS) -> Figure:
    """Draw counts (true class, predicted class), the mistakes in colour.

    Above 50 classes the counts are left out, and above 100 some of the names.
    """
    # Not scikit-learn's ConfusionMatrixDisplay: its colours are those of the diagonal, beside which mistakes vanish.
    size = min(max(8, 0.4 * len(counts)), 20)
    figure = Figure(figsize=(size, size - 0.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts - np.diag(np.diag(counts)), cmap=MISTAKES)
    for row, column in np.argwhere(counts) if len(counts) <= 50 else ():
        style: dict[str, Any] = {"color": BLUE, "fontweight": "bold"} if row == column else {}
        # Text within the axes needs no room of its own: the layout would measure each.
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", in_layout=False, **style)
    step = math.ceil(len(counts) / 100)
    ticks, names = range(0, len(counts), step), shorten(classes[::step])
    axes.set(title="Confusion matrix", xlabel="Predicted", ylabel="True")
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(ticks, names)
    axes.tick_params(length=0)
    axes.spines[:].set_color("lightgrey")
    return figure


def importance(shares: Mapping[str, float]) -> Figure:
    """Draw the importance of each parameter of a search."""
    figure = Figure(figsize=(8, 1 + 0.45 * len(shares)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([*shares], [*shares.values()], color=BLUE)
    axes.bar_label(bars, fmt=lambda share: percent(share, 0), padding=4)
    axes.invert_yaxis()
    axes.set(title="Importance of each parameter", xlabel="For being among the best tenth of the trials (PED-ANOVA)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def slices(rows: Sequence[Mapping[str, Any]], parameters: Sequence[str]) -> Figure:
    """Draw the validation accuracy of trials, each a row, against each of the `parameters`."""
    # Not Optuna's plot_slice, nor its plot_param_importances: they change matplotlib's style for every later figure.
    columns = min(4, len(parameters)) or 1
    lines = math.ceil(len(parameters) / columns) or 1
    figure = Figure(figsize=(4 * columns, 3.6 * lines), layout="constrained")
    figure.suptitle("Validation accuracy against each parameter")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axes, parameter in zip(grid, parameters, strict=False):
        trials = sorted((row for row in rows if parameter in row), key=lambda row: row[parameter])
        values = [row[parameter] for row in trials]
        if not all(isinstance(value, float) for value in values):
            values = [str(value) for value in values]  # evenly spaced: a choice rather than a number
        elif parameter == "lr":
            axes.set_xscale("log")
        axes.scatter(values, [row["val_accuracy"] for row in trials], color=BLUE, alpha=0.6, edgecolors="white", s=50)
        axes.set_xlabel(parameter)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    for axes in grid[len(parameters) :]:
        axes.set_axis_off()
    return figure


def monitoring(
    distributions: Mapping[str, tuple[Sequence[str], np.ndarray, np.ndarray]],
    indices: Mapping[str, float],
    levels: tuple[float, float],
    by_chance: Collection[str] = (),
) -> Figure:
    """Draw shares before and now, each of a name, and how far each statistic drifted, beside the two `levels`.

    Those that chance would explain are grey.
    """
    figure = Figure(figsize=(5 * (len(distributions) + 1), 4), layout="constrained")
    *grid, last = figure.subplots(1, len(distributions) + 1, squeeze=False)[0]
    titles = {
        "classes": ("Classes", "trained on"),
        "confidence": ("Confidence of at least", "holdout"),
    }
    for axes, (name, (names, before, now)) in zip(grid, distributions.items(), strict=True):
        places, (title, of_before) = np.arange(len(names)), titles[name]
        axes.bar(places - 0.2, before, 0.4, color="lightgrey", label=of_before)
        axes.bar(places + 0.2, now, 0.4, color=BLUE, label="served")
        axes.set_xticks(places, shorten(names), rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.legend(frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.12))
    colors = ["lightgrey" if name in by_chance else BLUE for name in indices]
    bars = last.barh([*indices], [*indices.values()], color=colors)
    last.bar_label(bars, fmt="{:.2f}", padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    for level, style, name in zip(levels, (":", "--"), ("moderate", "large"), strict=True):
        last.axvline(level, color=RED, linestyle=style, label=name)
    last.legend(frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.12))
    last.set_xlim(0, max([*indices.values(), levels[1]]) * 1.25)
    last.invert_yaxis()
    last.set_title("Stability index", loc="left", fontsize="medium")
    if by_chance:
        last.set_xlabel("grey: chance would explain it", loc="right", fontsize="small")
    for axes in (*grid, last):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def shorten(names: Sequence[str]) -> list[str]:
    """Return the names of classes as figures show them."""
    return [figure_text(name if len(name) <= 16 else f"{name[:15]}…") for name in names]


def _gallery(
    title: str, images: np.ndarray, titles: Sequence[str], colors: Sequence[str] | np.ndarray, *, rows: int = 2
) -> Figure:
    height = 0.84 + 2.58 * rows  # inches, as all lengths here
    figure = Figure(figsize=(15, height))
    figure.suptitle(title, fontsize=16, y=1 - 0.12 / height)
    # One axes rather than one for each image, of which matplotlib makes fifty a second
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 15), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    fontsize = 12 * min(1, 32 / max(map(len, titles), default=1))  # 32 letters of 12 points are as wide as an image
    for place, (image, text, color) in enumerate(zip(images, titles, colors, strict=True)):
        row, column = divmod(place, 5)
        x, y = 1.5 + 3 * column, height - 1.85 - 2.58 * row  # its middle
        half = np.array(image.shape) * min(2.26 / image.shape[0], 2.8 / image.shape[1]) / 2
        axes.imshow(image, cmap="gray", aspect="auto", extent=(x - half[1], x + half[1], y - half[0], y + half[0]))
        axes.text(x, y + half[0] + 0.06, text, ha="center", color=color, fontsize=fontsize)
    return figure
