"""Predictions of images by a network that has not learnt from them."""

from collections.abc import Sequence

import numpy as np
import torch

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.splits import Examples
from mnist_pipeline.training.evaluation import predict
from mnist_pipeline.training.loop import fit
from mnist_pipeline.training.model import MLP


def predict_unseen(part: Examples, unseen: np.ndarray, config: TrainConfig, *, outputs: int) -> torch.Tensor:
    """Train on all of `part` but the images that are `unseen` (N,), bool; return their probabilities (n, outputs)."""
    rest, rows = (torch.from_numpy(np.flatnonzero(chosen)) for chosen in (~unseen, unseen))
    mlp = MLP.from_config(config, inputs=part.images[0].numel(), outputs=outputs)
    for _ in fit(mlp, part.images[rest], part.labels[rest], config):
        pass
    return predict(mlp, part.images[rows])


def in_order(predicted: Sequence[torch.Tensor], folds: np.ndarray) -> torch.Tensor:
    """Return the probabilities of all images (N, classes), given those of each of the `folds` (N,)."""
    probabilities = torch.empty(len(folds), predicted[0].shape[1])
    for number, each in enumerate(predicted):
        probabilities[folds == number] = each
    return probabilities
