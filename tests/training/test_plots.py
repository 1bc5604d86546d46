"""Each figure shows what it was given, and can be drawn."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from mnist_pipeline.training import plots

IMAGES = np.random.default_rng(0).random((12, 28, 28))
LABELS = np.arange(12) % 10
PROBABILITIES = np.eye(10)[LABELS]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def draw(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture)
    return picture.getvalue()


def test_predictions_are_drawn_in_two_rows_of_five() -> None:
    figure = plots.predictions(IMAGES[:10], LABELS[:10], np.array([0, 1, 2, 8, 4, 5, 6, 7, 8, 9]))
    assert figure.get_size_inches().tolist() == [15, 6]
    assert figure.get_suptitle() == "MLP INFERENCE RESULTS"
    assert titles(figure)[2:4] == ["Label: 2, Predict: 2", "Label: 3, Predict: 8"]
    assert [axes.title.get_color() for axes in figure.axes[2:4]] == ["black", plots.RED]
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 5)  # type: ignore[union-attr]


def test_figures_show_the_names_of_classes_and_shorten_long_ones() -> None:
    names = ("cat", "dog", "a name far too long to stand over an image")
    images, labels, probabilities = IMAGES[:3], np.array([0, 1, 2]), np.eye(3)[[1, 1, 0]]
    figure = plots.confident_mistakes(images, labels, probabilities, names)
    assert titles(figure)[:2] == [
        "Label: cat, Predict: dog (100.0%)",
        "Label: a name far too …, Predict: cat (100.0%)",
    ]
    assert titles(plots.predictions(images, labels, labels, names))[0] == "Label: cat, Predict: cat"
    (axes,) = plots.confusion_matrix(np.eye(3, dtype=int), names).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "a name far too …"]


def test_the_loss_curve_starts_at_epoch_1() -> None:
    (line,) = plots.loss_curve([0.5, 0.2, 0.1]).axes[0].lines
    assert line.get_xydata().tolist() == [[1, 0.5], [2, 0.2], [3, 0.1]]  # type: ignore[union-attr]


def test_the_confusion_matrix_shows_all_counts_and_only_mistakes_in_colour() -> None:
    (axes,) = plots.confusion_matrix(np.array([[1200, 0], [3, 7]]), ["cat", "dog"]).axes
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "1,200", (0, 1): "3", (1, 1): "7"}
    (image,) = axes.images
    white = image.to_rgba(image.get_array()).min(axis=2) == 1  # type: ignore[arg-type]
    assert white.tolist() == [[True, True], [False, True]]


def test_the_confusion_matrix_of_very_many_classes_shows_colours_and_some_names() -> None:
    names = [f"class {number}" for number in range(1000)]
    (axes,) = plots.confusion_matrix(np.ones((1000, 1000), dtype=int), names).axes
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()] == names[::10]


def test_the_most_confident_mistake_comes_first() -> None:
    probabilities = PROBABILITIES.copy()
    probabilities[3] = np.eye(10)[7] * 0.6
    probabilities[5] = np.eye(10)[6] * 0.9
    figure = plots.confident_mistakes(IMAGES, LABELS, probabilities)
    assert titles(figure)[:2] == ["Label: 5, Predict: 6 (90.0%)", "Label: 3, Predict: 7 (60.0%)"]
    assert figure.get_suptitle() == "THE MOST CONFIDENT OF 2 MISTAKES IN 12 IMAGES"


@pytest.mark.parametrize(
    "figure",
    [
        plots.predictions(IMAGES[:10], LABELS[:10], LABELS[:10]),
        plots.loss_curve([0.5]),
        plots.confusion_matrix(np.zeros((10, 10), dtype=int)),
        plots.confident_mistakes(IMAGES, LABELS, PROBABILITIES),  # there are none
        plots.slices([{"val_accuracy": 0.9, "lr": 0.001}], []),
    ],
    ids=["predictions", "loss_curve", "confusion_matrix", "confident_mistakes", "slices"],
)
def test_a_figure_with_little_to_show_can_be_drawn(figure: Figure) -> None:
    assert draw(figure).startswith(b"\x89PNG")


def test_slices_show_choices_by_name_and_the_learning_rate_on_a_log_scale() -> None:
    rows = [
        {"val_accuracy": 0.9, "lr": 0.001, "optimizer": "sgd", "units_1": 64},
        {"val_accuracy": 0.95, "lr": 0.01, "optimizer": "adam", "units_1": 128},
    ]
    figure = plots.slices(rows, ["lr", "optimizer", "units_1"])
    figure.draw_without_rendering()
    lr, optimizer, units = figure.axes[:3]
    assert lr.get_xscale() == "log"
    assert [label.get_text() for label in optimizer.get_xticklabels()] == ["adam", "sgd"]
    assert [label.get_text() for label in units.get_xticklabels()] == ["64", "128"]


def test_importance_has_a_bar_for_each_parameter() -> None:
    (axes,) = plots.importance({"lr": 0.7, "dropout": 0.3}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lr", "dropout"]
    assert [text.get_text() for text in axes.texts] == ["70%", "30%"]
