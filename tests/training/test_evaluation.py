"""The metrics of predictions whose metrics are known."""

import math

import pytest
import torch

from mnist_pipeline.training.evaluation import calibration_error, evaluate, predict
from mnist_pipeline.training.model import MLP

PROBABILITIES = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0]])
LABELS = torch.tensor([0, 1, 1, 1])  # the second is mistaken for class 0; class 2 never occurs


def test_the_confusion_matrix_and_the_rates_of_each_class() -> None:
    evaluation = evaluate(PROBABILITIES, LABELS)
    assert (evaluation.correct, evaluation.total, evaluation.accuracy) == (3, 4, 0.75)
    assert evaluation.confusion.tolist() == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert evaluation.precision.tolist() == [0.5, 1, 0]
    assert evaluation.recall.tolist() == pytest.approx([1, 2 / 3, 0])
    assert evaluation.f1.tolist() == pytest.approx([2 / 3, 0.8, 0])


def test_the_loss_is_the_mean_cross_entropy() -> None:
    expected = -sum(math.log(p) for p in (0.8, 0.3, 0.7, 0.9)) / 4
    assert evaluate(PROBABILITIES, LABELS).loss == pytest.approx(expected)


def test_the_loss_of_a_confident_mistake_is_finite() -> None:
    assert math.isfinite(evaluate(torch.tensor([[1.0, 0.0]]), torch.tensor([1])).loss)


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    always_sure = torch.tensor([[0.9, 0.1]]).repeat(10, 1)
    nine_of_ten = torch.tensor([0] * 9 + [1])
    assert calibration_error(always_sure, nine_of_ten) == pytest.approx(0, abs=1e-6)
    assert calibration_error(always_sure, torch.zeros(10, dtype=torch.long)) == pytest.approx(0.1)


def test_the_accuracy_is_printed_as_in_the_tutorial() -> None:
    labels = torch.zeros(12_000, dtype=torch.long)
    probabilities = torch.tensor([[1.0, 0.0]] * 11_693 + [[0.0, 1.0]] * 307)
    assert str(evaluate(probabilities, labels)) == "11,693/12,000 (97.44 %)"


def test_predictions_are_in_order_and_without_dropout() -> None:
    mlp = MLP(784, [20], 10, dropout=0.9)
    images = torch.rand(50, 28, 28)
    whole, in_pieces = predict(mlp, images), predict(mlp, images, batch_size=7)
    assert torch.allclose(whole, in_pieces)
    assert torch.equal(whole, mlp.eval()(images.flatten(1)).softmax(dim=1))


def test_metrics_are_named_after_the_classes() -> None:
    metrics = evaluate(PROBABILITIES, LABELS, ["cat", "dog", "T-shirt/top"]).metrics("test")
    assert metrics["test_accuracy"] == 0.75
    assert metrics["test_recall/cat"] == 1
    assert "test_f1/T-shirt-top" in metrics  # MLflow allows no slash in it


def test_classes_whose_metrics_would_have_the_same_name_are_numbered() -> None:
    metrics = evaluate(PROBABILITIES, LABELS, ["c?", "c!", "dog"]).metrics("test")
    assert {name for name in metrics if "recall" in name} == {f"test_recall/{n}" for n in ("0-c-", "1-c-", "2-dog")}
