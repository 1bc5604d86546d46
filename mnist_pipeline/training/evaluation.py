"""Predictions → numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, nll_loss

from mnist_pipeline.config import Gate
from mnist_pipeline.interval import wilson
from mnist_pipeline.text import percent
from mnist_pipeline.training.model import MLP

MIN_CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


@dataclass(frozen=True)
class Score:
    """How a network does on one set after an epoch."""

    loss: float  # mean cross-entropy, in nats
    accuracy: float


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose confidence, the highest of their probabilities, is in one bin."""

    confidence: float  # mean
    accuracy: float
    count: int


@dataclass(frozen=True)
class Coverage:
    """How many images are answered at a `--min-confidence`, and how many of those answers are right."""

    min_confidence: float
    answered: int
    right: int
    total: int

    @property
    def share(self) -> float:
        return self.answered / self.total

    @property
    def accuracy(self) -> float:
        """The accuracy of the answers; 1 if there are none."""
        return self.right / self.answered if self.answered else 1.0


@dataclass(frozen=True)
class Evaluation:
    """How well a model did on one set; the arrays have one entry per class."""

    probabilities: torch.Tensor  # (N, classes)
    correct: int
    total: int
    loss: float  # mean cross-entropy, in nats
    calibration_error: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    confusion: np.ndarray  # (true class, predicted class), counts
    classes: tuple[str, ...]  # their names

    @property
    def accuracy(self) -> float:
        return self.correct / self.total

    @property
    def guess_accuracy(self) -> float:
        """The accuracy of always answering with the most frequent class."""
        return float(self.confusion.sum(axis=1).max() / self.total)

    @property
    def guessing_p_value(self) -> float:
        """How likely so many right answers are for one who guesses so, by the exact binomial test (one-sided)."""
        from scipy.stats import binomtest  # here, as prediction does without SciPy

        return float(binomtest(self.correct, self.total, self.guess_accuracy, alternative="greater").pvalue)

    @property
    def beats_guessing(self) -> bool:
        return self.guessing_p_value < Gate.significance

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy (Wilson, 1927), which stands for images beyond these."""
        return wilson(self.correct, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        interval = f"95 % interval {100 * low:.2f} to {percent(high)}"
        return f"{self.correct:,}/{self.total:,} ({percent(self.accuracy)}, {interval})"

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return the numbers that runs are compared by, each with `prefix`, as in `test_accuracy`."""
        numbers = {"accuracy": self.accuracy, "loss": self.loss, "calibration_error": self.calibration_error}
        return {f"{prefix}_{name}": value for name, value in numbers.items()}

    def by_class(self) -> list[dict[str, object]]:
        """Return a row with precision, recall and F1 for each class."""
        columns = [self.classes, *(values.tolist() for values in (self.precision, self.recall, self.f1))]
        return [
            dict(zip(("class", "precision", "recall", "f1"), row, strict=True)) for row in zip(*columns, strict=True)
        ]


def predict(model: nn.Module, images: torch.Tensor, *, batch_size: int = 1000) -> torch.Tensor:
    """Return the probabilities (N, classes) of float32 `images` (N, …), in order; the model is left in eval mode."""
    return predict_logits(model, images, batch_size=batch_size).softmax(dim=1)


def predict_logits(model: nn.Module, images: torch.Tensor, *, batch_size: int = 1000) -> torch.Tensor:
    """Return the logits (N, classes), likewise."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in images.split(batch_size)])


def score(mlp: MLP, images: torch.Tensor, labels: torch.Tensor, *, batch_size: int = 1000) -> Score:
    """Score `mlp` on float32 `images` (N, …), without test-time augmentation; it is left in eval mode."""
    mlp.eval()
    with torch.inference_mode():
        logits = torch.cat([mlp.logits(batch) for batch in images.split(batch_size)])
        accuracy = (logits.argmax(dim=1) == labels).double().mean()
        return Score(cross_entropy(logits, labels).item(), accuracy.item())


def evaluate(probabilities: torch.Tensor, labels: torch.Tensor, classes: Sequence[str] | None = None) -> Evaluation:
    """Score `probabilities` (N, classes) against `labels` (N,); by default the classes are called by their numbers."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # 130 MB, which prediction is spared

    predicted = probabilities.argmax(dim=1)
    numbers = range(probabilities.shape[1])
    # A class that is never predicted has precision 0 rather than none.
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)
    return Evaluation(
        probabilities=probabilities,
        correct=int((predicted == labels).sum()),
        total=len(labels),
        loss=nll_loss(probabilities.clamp_min(torch.finfo(torch.float32).tiny).log(), labels).item(),
        calibration_error=calibration_error(probabilities, labels),
        precision=precision,
        recall=recall,
        f1=f1,
        confusion=confusion_matrix(labels, predicted, labels=numbers),
        classes=tuple(classes or map(str, numbers)),
    )


def calibration_error(probabilities: torch.Tensor, labels: torch.Tensor, *, bins: int = 15) -> float:
    """Return the expected calibration error over `bins` equal bins of confidence.

    The mean distance of confidence and accuracy (Guo et al., 2017, "On Calibration of Modern Neural Networks").
    """
    rows = reliability(probabilities, labels, bins=bins)
    return sum(row.count * abs(row.accuracy - row.confidence) for row in rows) / len(labels)


def reliability(probabilities: torch.Tensor, labels: torch.Tensor, *, bins: int = 15) -> list[ReliabilityBin]:
    """Return how often `probabilities` (N, classes) are right, for each of `bins` equal bins that is not empty."""
    confidence, predicted = probabilities.max(dim=1)
    bin_of = (confidence * bins).long().clamp_max(bins - 1)
    counts, sums, hits = (
        torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_of, values.double())
        for values in (torch.ones_like(confidence), confidence, predicted == labels)
    )
    return [
        ReliabilityBin(float(sums[row] / count), float(hits[row] / count), int(count))
        for row, count in enumerate(counts)
        if count
    ]


def coverage(probabilities: torch.Tensor, labels: torch.Tensor) -> list[Coverage]:
    """Return how many of `probabilities` (N, classes) are answers at each `MIN_CONFIDENCES`, and how many are right."""
    confidence, predicted = probabilities.max(dim=1)
    answered = [confidence >= each for each in MIN_CONFIDENCES]
    return [
        Coverage(least, int(rows.sum()), int((rows & (predicted == labels)).sum()), len(labels))
        for least, rows in zip(MIN_CONFIDENCES, answered, strict=True)
    ]
