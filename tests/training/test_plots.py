"""Each figure shows what it was given, and can be drawn."""

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from mnist_pipeline.training import plots
from mnist_pipeline.training.evaluation import ReliabilityBin, Score
from mnist_pipeline.training.loop import Epoch

IMAGES = np.random.default_rng(0).random((12, 28, 28))
LABELS = np.arange(12) % 10


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def colors(figure: Figure) -> list[Any]:
    return [text.get_color() for text in figure.axes[0].texts]


def places(figure: Figure) -> tuple[int, int]:
    """Return the numbers of rows and columns that images are drawn in."""
    middles = [text.get_position() for text in figure.axes[0].texts]
    return len({y for _, y in middles}), len({x for x, _ in middles})


def draw(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture)
    return picture.getvalue()


def test_predictions_are_drawn_in_two_rows_of_five() -> None:
    figure = plots.predictions(IMAGES[:10], LABELS[:10], np.array([0, 1, 2, 8, 4, 5, 6, 7, 8, 9]))
    assert figure.get_size_inches().tolist() == [15, 6]
    assert figure.get_suptitle() == "MLP INFERENCE RESULTS"
    assert titles(figure)[2:4] == ["Label: 2, Predict: 2", "Label: 3, Predict: 8"]
    assert colors(figure)[2:4] == ["black", plots.RED]
    assert places(figure) == (2, 5)


def test_figures_show_the_names_of_classes_and_shorten_long_ones() -> None:
    names = ("cat", "dog", "a name far too long to stand over an image")
    figure = plots.predictions(IMAGES[:3], np.array([0, 1, 2]), np.array([0, 0, 1]), names)
    assert titles(figure) == [
        "Label: cat, Predict: cat",
        "Label: dog, Predict: cat",
        "Label: a name far too …, Predict: dog",
    ]
    (axes,) = plots.confusion_matrix(np.eye(3, dtype=int), names).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "a name far too …"]


def test_dollar_signs_in_names_are_no_mathematics() -> None:
    names = ("$1_coin$", "$^bad$", "US$ & 50%")
    assert draw(plots.confusion_matrix(np.eye(3, dtype=int), names))
    assert draw(plots.predictions(IMAGES[:3], LABELS[:3], LABELS[:3], names))


def epochs(count: int, *, validation: bool = False) -> list[Epoch]:
    return [
        Epoch(
            number, 1 / number, 1 / number, Score(1.1 / number, 0.9), Score(1.2 / number, 0.8) if validation else None
        )
        for number in range(1, count + 1)
    ]


def test_the_curves_show_the_loss_and_the_accuracy_of_each_set_from_epoch_1() -> None:
    loss, accuracy = plots.curves(epochs(2, validation=True)).axes
    assert [line.get_xydata().tolist() for line in loss.lines] == [  # type: ignore[union-attr]
        [[1, 1], [2, 0.5]],
        [[1, 1.1], [2, 0.55]],
        [[1, 1.2], [2, 0.6]],
    ]
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[0.9, 0.9], [0.8, 0.8]]  # type: ignore[union-attr]
    names = [text.get_text().split("\n") for text in loss.texts]
    assert sorted(names) == [["test", "0.550"], ["train", "0.500"], ["validation", "0.600"]]


def test_the_best_epoch_is_marked_in_both_panels() -> None:
    figure = plots.curves(epochs(5, validation=True), best_epoch=3)
    assert [axes.lines[-1].get_xdata() for axes in figure.axes] == [[3, 3], [3, 3]]
    assert figure.axes[0].get_title(loc="right") == "best epoch: 3"


def test_the_names_beside_curves_that_end_together_do_not_overlap() -> None:
    figure = plots.curves([Epoch(1, 0.5, 0.5, Score(0.5, 0.9), Score(0.5, 0.9))])
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
        assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_the_reliability_diagram_has_a_point_and_a_count_for_each_bin() -> None:
    upper, lower = plots.reliability([ReliabilityBin(0.55, 0.5, 4), ReliabilityBin(0.98, 0.97, 1200)]).axes
    assert upper.lines[1].get_xydata().tolist() == [[0.55, 0.5], [0.98, 0.97]]  # type: ignore[union-attr]
    assert [text.get_text() for text in lower.texts] == ["4", "1,200"]


def test_a_contact_sheet_has_rows_of_five_won_in_blue_and_lost_in_red() -> None:
    figure = plots.contact_sheet("title", IMAGES[:7], ["3: 8 → 3"] * 7, wins=2)
    assert places(figure) == (2, 5)
    assert colors(figure)[:3] == [plots.BLUE, plots.BLUE, plots.RED]


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


@pytest.mark.parametrize(
    "figure",
    [
        plots.predictions(IMAGES[:10], LABELS[:10], LABELS[:10]),
        plots.curves([Epoch(1, 0.5, 0.5)]),  # of a checkpoint without scores
        plots.curves(epochs(150, validation=True), best_epoch=90),
        plots.reliability([ReliabilityBin(0.4, 0, 1)]),
        plots.confusion_matrix(np.zeros((10, 10), dtype=int)),
        plots.slices([{"val_accuracy": 0.9, "lr": 0.001}], []),
    ],
    ids=["predictions", "curve", "curves", "reliability", "confusion_matrix", "slices"],
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
    assert [text.get_text() for text in axes.texts] == ["70 %", "30 %"]
