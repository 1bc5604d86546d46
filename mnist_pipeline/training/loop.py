"""The training loop, on one screen."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from mnist_pipeline.config import FieldError, TrainConfig
from mnist_pipeline.training import checkpoints
from mnist_pipeline.training.augmentation import augment
from mnist_pipeline.training.compiled import CompiledTraining
from mnist_pipeline.training.model import MLP
from mnist_pipeline.training.optimizers import OPTIMIZERS, Adam, ClassUpdate

Optimizer = Adam | ClassUpdate | CompiledTraining


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images."""

    number: int  # from 1
    train_loss: float  # mean over the batches
    last_batch_loss: float  # what the tutorial prints


def fit(
    mlp: MLP, images: torch.Tensor, labels: torch.Tensor, config: TrainConfig, *, checkpoint: Path | None = None
) -> Iterator[Epoch]:
    """Train `mlp` in place on float32 `images` (N, …) and int64 `labels` (N,), yielding each epoch as it ends.

    The loss is the cross-entropy of shuffled batches, the last short one dropped. Random numbers are torch's global
    ones: the same seed before, the same weights after, bit for bit on the CPU. `mlp` ends on the CPU.

    A `checkpoint` is written before each epoch is yielded. If the file exists, the training resumes from it: the epochs
    that are done are yielded again first, and the weights end as if it had never stopped.

    Raises `FieldError` if a batch is larger than the training set or there is no such device, and `FloatingPointError`
    after an epoch whose loss is not finite.
    """
    if len(images) < config.batch_size:
        raise FieldError(
            "batch_size", f"must be at most the {len(images):,} training images, not {config.batch_size:,}"
        )
    device = choose_device(config)
    mlp, images, labels = mlp.to(device), images.to(device), labels.to(device)  # all of it, once
    parameters = list(mlp.parameters())
    batches = len(images) // config.batch_size
    rates = learning_rates(config, config.epochs * batches)
    optimizer = OPTIMIZERS[config.optimizer](parameters)
    compiled = CompiledTraining(mlp, config, batches) if config.compile else None
    epochs = _resume(checkpoint, mlp, compiled or optimizer) if checkpoint else []
    yield from epochs

    for number in range(len(epochs) + 1, config.epochs + 1):
        with threads(config.threads or choose_threads(mlp, config)), flush_denormals():
            mlp.train()
            inputs = (augment(images, config.augmentation) if config.augmentation else images).flatten(1)
            order = torch.randperm(len(images), device=device)[: batches * config.batch_size]
            epoch_rates = rates[(number - 1) * batches : number * batches]
            if compiled:
                loss_of_batch = compiled.train_epoch(inputs, labels, order, epoch_rates)
            else:
                losses = []
                for rows, lr in zip(order.split(config.batch_size), epoch_rates, strict=True):
                    logits = mlp(inputs.index_select(0, rows))
                    loss = cross_entropy(logits, labels.index_select(0, rows), label_smoothing=config.label_smoothing)
                    gradients = torch.autograd.grad(loss, parameters)  # `backward` would first add each to a zero
                    optimizer.step(gradients, lr)
                    losses.append(loss.detach())
                loss_of_batch = torch.stack(losses)
        epoch = Epoch(number, loss_of_batch.mean().item(), loss_of_batch[-1].item())
        if not math.isfinite(epoch.train_loss):
            problem = f"the loss became {epoch.train_loss} in epoch {number}"
            raise FloatingPointError(f"{problem}: lower the learning rate, which is {config.lr}")
        epochs.append(epoch)
        if checkpoint:
            _save(checkpoint, mlp, compiled or optimizer, epochs)
        yield epoch
    mlp.cpu()


def learning_rates(config: TrainConfig, steps: int) -> list[float]:
    """Return the learning rate of each step.

    One cycle (Smith and Topin, 2018, "Super-Convergence") as in `torch.optim.lr_scheduler.OneCycleLR`: from 1/25 of the
    maximum up to it over the first 30 % of the steps, then down to 1/250,000 of it, both along a cosine.
    """
    if config.schedule == "constant":
        return [config.lr] * steps
    start, end, peak = config.lr / 25, config.lr / 25 / 1e4, 0.3 * steps - 1

    def cosine(first: float, last: float, share: float) -> float:
        return last + (first - last) / 2 * (1 + math.cos(math.pi * share))

    return [
        cosine(start, config.lr, step / peak)
        if step <= peak
        else cosine(config.lr, end, (step - peak) / (steps - 1 - peak))
        for step in range(steps)
    ]


def choose_device(config: TrainConfig) -> torch.device:
    """Return the device that `config` names, or a CUDA card if there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise FieldError("device", "cuda needs a CUDA card, and torch sees none: use cpu")
    return torch.device(config.device)


def choose_threads(mlp: MLP, config: TrainConfig) -> int:
    """Return 1 for small steps, where a second thread gains little if the machine is quiet and loses much if not."""
    weights = sum(a * b for a, b in pairwise(mlp.sizes))
    flops = 6 * config.batch_size * weights  # forward 2, backward 4
    return 1 if flops < 400e6 else torch.get_num_threads()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Treat numbers below the normal ones of float32 (1e-38) as zero within the block, in the calling thread alone.

    Adam's averages of a gradient fade into such numbers where a pixel is rarely set, and each takes a processor a
    hundred times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _save(checkpoint: Path, mlp: MLP, optimizer: Optimizer, epochs: list[Epoch]) -> None:
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        random["cuda"] = torch.cuda.get_rng_state()
    state = {"mlp": mlp.state_dict(), "optimizer": optimizer.state_dict(), "random": random}
    checkpoints.save(checkpoint, state | {"epochs": [*map(asdict, epochs)]})


def _resume(checkpoint: Path, mlp: MLP, optimizer: Optimizer) -> list[Epoch]:
    """Restore what `_save` wrote, and return the epochs that are done; without a checkpoint, write the first."""
    state = checkpoints.load(checkpoint)
    if state is None:
        _save(checkpoint, mlp, optimizer, [])
        return []
    mlp.load_state_dict(state["mlp"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"]["cpu"])
    if "cuda" in state["random"]:
        torch.cuda.set_rng_state(state["random"]["cuda"])
    return [Epoch(**fields) for fields in state["epochs"]]
