"""Numbers in, a matplotlib Figure out; nothing is written or shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnist_pipeline.config import DIGITS

BLUE, GREY, RED = "#2a6fb0", "#666666", "#b3261e"


def predictions(
    images: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str] = DIGITS
) -> Figure:
    """Draw ten images (10, H, W), two rows of five, each under its label and what the model took it for."""
    names = [_short(name) for name in classes]
    titles = [f"Label: {names[label]}, Predict: {names[guess]}" for label, guess in zip(labels, predicted, strict=True)]
    return _gallery("MLP INFERENCE RESULTS", images, titles, wrong=labels != predicted)


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


def confusion(counts: np.ndarray, classes: Sequence[str] = DIGITS) -> Figure:
    """Draw a confusion matrix (true class, predicted class); the colour shows the mistakes alone.

    Of very many classes, the colour alone is drawn.
    """
    side = min(max(8, 0.5 * len(counts)), 40)
    figure = Figure(figsize=(side, side - 0.5), layout="constrained")
    axes = figure.subplots()
    mistakes = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    axes.imshow(mistakes, cmap="Reds", vmax=max(1.5 * mistakes.max(), 1))
    for row, column in np.ndindex(*counts.shape) if len(counts) <= 100 else ():
        on_diagonal = row == column
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}" if counts[row, column] else "·",
            ha="center",
            va="center",
            color=BLUE if on_diagonal else ("black" if counts[row, column] else GREY),
            fontweight="bold" if on_diagonal else "normal",
            in_layout=False,  # within the axes: a hundred boxes that the layout need not measure
        )
    ticks, names = range(len(counts)), [_short(name) for name in classes[: len(counts)]]
    axes.set(title="Confusion matrix", xlabel="Predicted", ylabel="True")
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(ticks, names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def surest_mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str] = DIGITS
) -> Figure:
    """Draw the ten images (of N, H, W) that the model got wrong with the highest confidence, the surest first.

    `probabilities` is (N, classes).
    """
    names = [_short(name) for name in classes]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:10]
    titles = [f"Label: {names[labels[i]]}, Predict: {names[predicted[i]]} ({confidence[i]:.1%})" for i in surest]
    title = f"THE SUREST OF {len(wrong):,} MISTAKES IN {len(labels):,} IMAGES"
    return _gallery(title, images[surest], titles, wrong=np.full(len(surest), False))


def importance(shares: Mapping[str, float]) -> Figure:
    """Draw how much each parameter has to do with the result."""
    figure = Figure(figsize=(8, 1 + 0.45 * len(shares)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([*shares], [*shares.values()], color=BLUE)
    axes.bar_label(bars, fmt="{:.0%}", padding=4)
    axes.invert_yaxis()
    axes.set(title="What makes the trials differ", xlabel="Share of the variance of the validation accuracy")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def slices(rows: Sequence[Mapping[str, Any]], parameters: Sequence[str]) -> Figure:
    """Draw the validation accuracy of the finished trials against each parameter."""
    columns = min(4, len(parameters)) or 1
    count = -(-len(parameters) // columns) or 1
    figure = Figure(figsize=(4 * columns, 3.6 * count), layout="constrained")
    figure.suptitle("Validation accuracy against each parameter")
    grid = figure.subplots(count, columns, sharey=True, squeeze=False).ravel()
    for axes, parameter in zip(grid, parameters, strict=False):
        tried = sorted((row for row in rows if parameter in row), key=lambda row: row[parameter])
        values = [row[parameter] for row in tried]
        if not all(isinstance(value, float) for value in values):
            values = [str(value) for value in values]  # a choice, not a place on a line
        elif parameter == "lr":
            axes.set_xscale("log")
        axes.scatter(values, [row["val_accuracy"] for row in tried], color=BLUE, alpha=0.6, edgecolors="white", s=50)
        axes.set_xlabel(parameter)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    for axes in grid[len(parameters) :]:
        axes.set_axis_off()
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _gallery(title: str, images: np.ndarray, titles: Sequence[str], *, wrong: np.ndarray) -> Figure:
    figure = Figure(figsize=(15, 6))  # with margins by hand: a layout engine would draw all of it twice
    figure.suptitle(title, fontsize=16)
    margins = {"left": 0.01, "right": 0.99, "bottom": 0.02, "top": 0.88, "wspace": 0.05, "hspace": 0.14}
    grid = figure.subplots(2, 5, gridspec_kw=margins).ravel()
    size = 12 * min(1, 32 / max(map(len, titles), default=1))  # points: 32 letters of 12 are as wide as an image
    for axes in grid:
        axes.set_axis_off()
    for axes, image, text, is_wrong in zip(grid, images, titles, wrong, strict=False):
        axes.imshow(image, cmap="gray")
        # `y` is where it stands anyway: without, matplotlib would measure ticks that are not drawn
        axes.set_title(text, y=1, color=RED if is_wrong else "black", fontsize=size)
    return figure
