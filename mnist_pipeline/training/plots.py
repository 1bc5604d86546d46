"""Numbers → matplotlib figures, without pyplot and its global state."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnist_pipeline.data.schema import DIGITS

BLUE, RED = "#2a6fb0", "#b3261e"
MISTAKES = LinearSegmentedColormap.from_list("mistakes", ["white", "tomato"])  # black text can be read on all of it


def predictions(
    images: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str] = DIGITS
) -> Figure:
    """Draw ten images (10, H, W) in two rows of five, each under its label and its predicted class."""
    names = _shorten(classes)
    titles = [f"Label: {names[label]}, Predict: {names[guess]}" for label, guess in zip(labels, predicted, strict=True)]
    return _gallery("MLP INFERENCE RESULTS", images, titles, np.where(labels == predicted, "black", RED))


def confident_mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str] = DIGITS
) -> Figure:
    """Draw the ten of the images (N, H, W) that are misclassified with the highest of `probabilities` (N, classes)."""
    names = _shorten(classes)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    mistakes = np.flatnonzero(predicted != labels)
    worst = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:10]
    titles = [f"Label: {names[labels[i]]}, Predict: {names[predicted[i]]} ({confidence[i]:.1%})" for i in worst]
    title = f"THE MOST CONFIDENT OF {len(mistakes):,} MISTAKES IN {len(labels):,} IMAGES"
    return _gallery(title, images[worst], titles, ["black"] * len(worst))


def loss_curve(train_losses: Sequence[float]) -> Figure:
    """Draw the mean training loss of each epoch."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(train_losses) + 1)
    axes.plot(epochs, train_losses, color=BLUE, marker="o", markersize=5, linewidth=2)
    axes.annotate(
        f"{train_losses[-1]:.3f}", (epochs[-1], train_losses[-1]), (0, 9), textcoords="offset points", ha="center"
    )
    axes.set(title="Training loss", xlabel="Epoch", ylabel="Mean cross-entropy", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


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
    ticks, names = range(0, len(counts), step), _shorten(classes[::step])
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
    axes.bar_label(bars, fmt="{:.0%}", padding=4)
    axes.invert_yaxis()
    axes.set(title="Importance of each parameter", xlabel="For being among the best tenth of the trials (PED-ANOVA)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
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


def _shorten(names: Sequence[str]) -> list[str]:
    return [name if len(name) <= 16 else f"{name[:15]}…" for name in names]


def _gallery(title: str, images: np.ndarray, titles: Sequence[str], colors: Sequence[str] | np.ndarray) -> Figure:
    figure = Figure(figsize=(15, 6))  # with margins by hand: a layout engine would draw everything twice
    figure.suptitle(title, fontsize=16)
    margins = {"left": 0.01, "right": 0.99, "bottom": 0.02, "top": 0.88, "wspace": 0.05, "hspace": 0.14}
    grid = figure.subplots(2, 5, gridspec_kw=margins).ravel()
    fontsize = 12 * min(1, 32 / max(map(len, titles), default=1))  # 32 letters of 12 points are as wide as an image
    for axes in grid:
        axes.set_axis_off()
    for axes, image, text, color in zip(grid, images, titles, colors, strict=False):
        axes.imshow(image, cmap="gray")
        axes.set_title(text, y=1, color=color, fontsize=fontsize)  # without `y`, matplotlib measures the hidden ticks
    return figure
