"""The training loop, on one screen."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise, repeat

import torch
from torch.nn.functional import cross_entropy

from mnist_pipeline.config import Optimizer, TrainConfig
from mnist_pipeline.model import MLP

Step = Callable[[torch.Tensor, torch.Tensor, list[float]], torch.Tensor]  # images, labels, rates → losses

# `fused` updates all parameters in one kernel, where torch has one.
OPTIMIZERS: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9, fused=True),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True),
    "adagrad": torch.optim.Adagrad,  # its fused kernel is for the CPU alone
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


def fit(mlp: MLP, images: torch.Tensor, labels: torch.Tensor, config: TrainConfig) -> Iterator[Epoch]:
    """Train `mlp` in place on float32 `images` (N, …) and int64 `labels` (N,), yielding each epoch as it ends.

    Cross-entropy over shuffled batches, the last short one dropped. The random numbers are torch's global ones: the
    same seed before, the same weights after, bit for bit on the CPU. `mlp` is left on the CPU.

    Raises `ValueError` where there are fewer images than a batch takes or no such device, and `FloatingPointError` at
    the end of an epoch whose loss is not finite.
    """
    if len(images) < config.batch_size:
        raise ValueError(f"--batch-size must be at most the {len(images):,} training images, not {config.batch_size:,}")
    device = choose_device(config)
    images, labels = images.flatten(1).to(device), labels.to(device)  # all of it, once
    mlp.to(device)
    batches = len(images) // config.batch_size
    rates = learning_rates(config, batches)
    step, stride = make_step(mlp, config, batches)  # a step takes `stride` batches
    for number in range(1, config.epochs + 1):
        with threads(config.threads or choose_threads(mlp, config)):
            mlp.train()
            losses = []
            shuffled = torch.randperm(len(images), device=device)[: batches * config.batch_size]
            for rows in shuffled.split(stride * config.batch_size):
                losses.append(
                    step(images.index_select(0, rows), labels.index_select(0, rows), [*islice(rates, stride)])
                )
        loss = torch.cat(losses)
        epoch = Epoch(number, loss.mean().item(), loss[-1].item())
        if not math.isfinite(epoch.train_loss):
            raise FloatingPointError(f"the loss became {epoch.train_loss} in epoch {number}: lower --lr ({config.lr})")
        yield epoch
    mlp.cpu()


def make_step(mlp: MLP, config: TrainConfig, batches: int) -> tuple[Step, int]:
    """Make the function that takes a step, and say how many batches it takes at once."""
    if config.compile:
        from mnist_pipeline.compiled import compiled_step

        return compiled_step(mlp, config, batches)

    optimizer = OPTIMIZERS[config.optimizer](mlp.parameters(), lr=config.lr)

    def step(images: torch.Tensor, labels: torch.Tensor, rates: list[float]) -> torch.Tensor:
        (optimizer.param_groups[0]["lr"],) = rates
        loss = cross_entropy(mlp(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach().unsqueeze(0)

    return step, 1


def learning_rates(config: TrainConfig, batches: int) -> Iterator[float]:
    """Give the learning rate of every step of `config.epochs` epochs of `batches`."""
    total = config.epochs * batches
    if config.schedule == "constant":
        yield from repeat(config.lr, total)
        return
    optimizer = torch.optim.SGD([torch.zeros(1)])  # for the scheduler's sake: it asks for one
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=total, cycle_momentum=False)
    for _ in range(total - 1):
        yield float(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    yield float(schedule.get_last_lr()[0])


def choose_device(config: TrainConfig) -> torch.device:
    """Take the device that `config` names, or the CUDA card where there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a CUDA card, and torch sees none: use --device cpu")
    return torch.device(config.device)


def choose_threads(mlp: MLP, config: TrainConfig) -> int:
    """One thread for a small step, where a second gains little on a quiet machine and loses much on a busy one."""
    weights = sum(a * b for a, b in pairwise(mlp.sizes))
    flops = 6 * config.batch_size * weights  # forward 2, backward 4
    return 1 if flops < 400e6 else torch.get_num_threads()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
