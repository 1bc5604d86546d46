"""Predictions → numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import nll_loss


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

    def __str__(self) -> str:
        return f"{self.correct:,}/{self.total:,} ({self.accuracy:.2%})".replace("%", " %")

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return the metrics by name, each with `prefix`, as in `test_accuracy` or `test_recall/3`.

        What MLflow does not allow in a name becomes a dash; if that makes two names the same, the classes are numbered.
        """
        labels = [re.sub(r"[^\w.\- ]", "-", name) for name in self.classes]
        if len(set(labels)) < len(labels):
            labels = [f"{number}-{name}" for number, name in enumerate(labels)]
        numbers = {"accuracy": self.accuracy, "loss": self.loss, "calibration_error": self.calibration_error}
        for name in ("precision", "recall", "f1"):
            values = getattr(self, name).tolist()
            numbers |= {f"{name}/{label}": value for label, value in zip(labels, values, strict=True)}
        return {f"{prefix}_{name}": value for name, value in numbers.items()}


def predict(model: nn.Module, images: torch.Tensor, *, batch_size: int = 1000) -> torch.Tensor:
    """Return the probabilities (N, classes) of float32 `images` (N, …), in order; the model is left in eval mode."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(batch).softmax(dim=1) for batch in images.split(batch_size)])


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
        loss=nll_loss(probabilities.clamp_min(1e-38).log(), labels).item(),
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
    confidence, predicted = probabilities.max(dim=1)
    gap = (predicted == labels).to(torch.float64) - confidence
    bin_of = (confidence * bins).long().clamp_max(bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_of, gap)
    return float(gaps.abs().sum() / len(labels))
