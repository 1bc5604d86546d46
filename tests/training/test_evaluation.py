"""The metrics of predictions whose metrics are known."""

import math

import pytest
import torch
from scipy.stats import binomtest

from mnist_pipeline.training.evaluation import calibration_error, coverage, evaluate, predict, reliability, score
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


def test_a_least_confidence_leaves_out_answers_and_with_them_mistakes() -> None:
    found = {row.min_confidence: (row.answered, row.right) for row in coverage(PROBABILITIES, LABELS)}
    assert (found[0.0], found[0.7], found[0.95]) == ((4, 3), (3, 3), (0, 0))
    assert (coverage(PROBABILITIES, LABELS)[-1].share, coverage(PROBABILITIES, LABELS)[-1].accuracy) == (0, 1)


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


def test_the_reliability_of_each_confidence_is_counted_where_there_are_predictions() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6]])
    low, high = reliability(probabilities, torch.tensor([0, 1, 1]), bins=10)
    assert (low.accuracy, low.count, high.accuracy, high.count) == (1, 1, 0.5, 2)
    assert high.confidence == pytest.approx(0.91)


def test_the_accuracy_is_printed_as_in_the_tutorial_with_its_interval() -> None:
    labels = torch.zeros(12_000, dtype=torch.long)
    probabilities = torch.tensor([[1.0, 0.0]] * 11_693 + [[0.0, 1.0]] * 307)
    assert str(evaluate(probabilities, labels)) == "11,693/12,000 (97.44 %, 95 % interval 97.14 to 97.71 %)"


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (7, 10), (9743, 10_000)])
def test_the_interval_is_wilsons(correct: int, total: int) -> None:
    probabilities = torch.tensor([[1.0, 0.0]] * correct + [[0.0, 1.0]] * (total - correct))
    interval = evaluate(probabilities, torch.zeros(total, dtype=torch.long)).interval
    expected = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    assert interval == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_a_few_right_answers_more_than_a_guesser_gives_may_be_chance() -> None:
    labels = torch.tensor([0] * 30 + [1] * 30)
    for correct, beats in ((32, False), (40, True)):
        predicted = labels.clone()
        predicted[correct:] = 1 - labels[correct:]
        assert evaluate(torch.eye(2)[predicted], labels).beats_guessing == beats


def test_an_epochs_score_is_that_of_the_images_as_they_are() -> None:
    mlp, images, labels = MLP(784, [20], 10, dropout=0.5, tta=True), torch.rand(50, 28, 28), torch.arange(50) % 10
    plain = MLP(784, [20], 10)
    plain.load_state_dict({name: weights for name, weights in mlp.state_dict().items() if name != "rotations"})
    expected = evaluate(predict(plain, images), labels)
    found = score(mlp, images, labels, batch_size=7)
    assert found.loss == pytest.approx(expected.loss)
    assert found.accuracy == pytest.approx(expected.accuracy)


def test_predictions_are_in_order_and_without_dropout() -> None:
    mlp = MLP(784, [20], 10, dropout=0.9)
    images = torch.rand(50, 28, 28)
    whole, in_pieces = predict(mlp, images), predict(mlp, images, batch_size=7)
    assert torch.allclose(whole, in_pieces)
    assert torch.equal(whole, mlp.eval()(images.flatten(1)).softmax(dim=1))


def test_runs_are_compared_by_three_numbers_and_the_classes_are_the_rows_of_a_table() -> None:
    evaluation = evaluate(PROBABILITIES, LABELS, ["cat", "dog", "T-shirt/top"])
    metrics = evaluation.metrics("test")
    assert metrics.keys() == {"test_accuracy", "test_loss", "test_calibration_error"}
    assert metrics["test_accuracy"] == 0.75
    rows = {row["class"]: row for row in evaluation.by_class()}
    assert [*rows] == ["cat", "dog", "T-shirt/top"]
    assert rows["cat"]["recall"] == 1
