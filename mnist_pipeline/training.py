"""The training loop, on one screen."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mnist_pipeline.config import Optimizer, TrainConfig

# `fused` updates all parameters in one kernel, where torch has one.
OPTIMIZERS: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9, fused=True),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True),
    "adagrad": partial(torch.optim.Adagrad, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images."""

    number: int  # from 1
    train_loss: float  # mean over the batches
    last_batch_loss: float  # what the tutorial prints


def fit(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, config: TrainConfig) -> Iterator[Epoch]:
    """Train `model` in place on float32 `images` (N, …) and int64 `labels` (N,), yielding each epoch as it ends.

    Cross-entropy over shuffled batches, the last short one dropped. The random numbers are torch's global ones: the
    same seed before, the same weights after, bit for bit on the CPU.

    Raises `ValueError` where there are fewer images than a batch takes, and `FloatingPointError` at the end of an epoch
    whose loss is not finite.
    """
    if len(images) < config.batch_size:
        raise ValueError(f"--batch-size must be at most the {len(images):,} training images, not {config.batch_size:,}")
    images = images.flatten(1)
    steps = len(images) // config.batch_size
    optimizer = OPTIMIZERS[config.optimizer](model.parameters(), lr=config.lr)
    for number in range(1, config.epochs + 1):
        with _one_thread():
            model.train()
            losses = torch.empty(steps)
            shuffled = torch.randperm(len(images))
            batches = zip(shuffled.split(config.batch_size), labels[shuffled].split(config.batch_size), strict=True)
            for step, (rows, targets) in zip(range(steps), batches, strict=False):
                loss = cross_entropy(model(images.index_select(0, rows)), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses[step] = loss.detach()
        epoch = Epoch(number, losses.mean().item(), losses[-1].item())
        if not math.isfinite(epoch.train_loss):
            raise FloatingPointError(f"the loss became {epoch.train_loss} in epoch {number}: lower --lr ({config.lr})")
        yield epoch


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """At this size a second thread gains little on a quiet machine, loses much on a busy one, and changes the sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
