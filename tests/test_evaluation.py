"""The numbers, on predictions whose numbers are known."""

import math

import pytest
import torch

from mnist_pipeline.data import Splits
from mnist_pipeline.evaluation import calibration_error, evaluate, predict
from mnist_pipeline.model import MLP

PROBABILITIES = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0]])
LABELS = torch.tensor([0, 1, 1, 1])  # the second is mistaken for class 0; class 2 never occurs


def test_counts_and_rates_of_each_class() -> None:
    evaluation = evaluate(PROBABILITIES, LABELS)
    assert (evaluation.correct, evaluation.total, evaluation.accuracy) == (3, 4, 0.75)
    assert evaluation.confusion.tolist() == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert evaluation.precision.tolist() == [0.5, 1, 0]
    assert evaluation.recall.tolist() == pytest.approx([1, 2 / 3, 0])
    assert evaluation.f1.tolist() == pytest.approx([2 / 3, 0.8, 0])


def test_the_loss_is_the_mean_cross_entropy() -> None:
    expected = -sum(math.log(p) for p in (0.8, 0.3, 0.7, 0.9)) / 4
    assert evaluate(PROBABILITIES, LABELS).loss == pytest.approx(expected)


def test_a_sure_mistake_costs_much_but_not_infinitely_much() -> None:
    assert math.isfinite(evaluate(torch.tensor([[1.0, 0.0]]), torch.tensor([1])).loss)


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    always_sure = torch.tensor([[0.9, 0.1]]).repeat(10, 1)
    nine_of_ten = torch.tensor([0] * 9 + [1])
    assert calibration_error(always_sure, nine_of_ten) == pytest.approx(0, abs=1e-6)
    assert calibration_error(always_sure, torch.zeros(10, dtype=torch.long)) == pytest.approx(0.1)


def test_the_score_reads_as_in_the_tutorial() -> None:
    labels = torch.zeros(12_000, dtype=torch.long)
    probabilities = torch.tensor([[1.0, 0.0]] * 11_693 + [[0.0, 1.0]] * 307)
    assert str(evaluate(probabilities, labels)) == "11,693/12,000 (97.44 %)"


def test_prediction_is_in_order_and_without_dropout(splits: Splits) -> None:
    mlp = MLP(784, [20], 10, dropout=0.9)
    images = splits.test.images[:50]
    whole, in_pieces = predict(mlp, images), predict(mlp, images, batch_size=7)
    assert torch.allclose(whole, in_pieces)
    assert torch.equal(whole, mlp.eval()(images.flatten(1)).softmax(dim=1))
