"""The training loop."""

import contextlib
import hashlib
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from mnist_pipeline.config import RECIPES, FieldError, TrainConfig, check
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.text import counted
from mnist_pipeline.training import checkpoints
from mnist_pipeline.training.augmentation import augment
from mnist_pipeline.training.compiled import CompiledTraining
from mnist_pipeline.training.evaluation import Score, score
from mnist_pipeline.training.model import MLP
from mnist_pipeline.training.optimizers import OPTIMIZERS, Adam, TorchOptimizer

logger = logging.getLogger(__name__)

Optimizer = Adam | TorchOptimizer | CompiledTraining
Labelled = tuple[torch.Tensor, torch.Tensor]  # float32 images (N, …), int64 labels (N,)

MIN_STEPS = 20  # an epoch, unless a batch size is given: with fewer, small data would hardly be learnt
MIN_BATCH = 8  # images, where the batch size is chosen here: batch norm takes their mean and variance


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images."""

    number: int  # from 1
    train_loss: float  # mean over the batches
    last_batch_loss: float  # what the tutorial prints
    test: Score | None = None
    val: Score | None = None


def fit(
    mlp: MLP,
    images: torch.Tensor,
    labels: torch.Tensor,
    config: TrainConfig,
    *,
    val: Labelled | None = None,
    test: Labelled | None = None,
    checkpoint: Path | None = None,
) -> Iterator[Epoch]:
    """Train `mlp` in place on float32 `images` (N, …) and int64 `labels` (N,), yielding each epoch as it ends.

    The loss is the cross-entropy of shuffled batches, the last short one dropped. Random numbers come from torch's
    global generators: the same seed gives the same weights, bit for bit on the CPU. `mlp` ends on the CPU.

    After each epoch it is scored on `val` and `test`, if given, which changes nothing in it. With patience, the
    training stops when the loss on `val` has not fallen for so many epochs (unless the schedule is one cycle), and
    `mlp` ends with the best epoch's weights.

    A `checkpoint` is written before each epoch is yielded. If the file exists, the training resumes from it: the epochs
    that are done are yielded again first, and the weights end as if it had never stopped.

    Raises `FieldError` if a batch is larger than the training set, there is no such device or nothing to watch, and
    `FloatingPointError` after an epoch whose loss is not finite.
    """
    check_batch_size(config, images=len(images))
    if config.patience and not val:
        raise FieldError("patience", "needs validation images to watch")
    device = choose_device(config)
    mlp, images, labels = mlp.to(device), images.to(device), labels.to(device)  # all of it, once
    val, test = (each and (each[0].to(device), each[1].to(device)) for each in (val, test))
    weights = balanced_weights(labels, mlp.sizes[-1]) if config.class_weights == "balanced" else None
    parameters = list(mlp.parameters())
    batches = len(images) // config.batch_size
    rates = learning_rates(config, config.epochs * batches)
    eager = OPTIMIZERS[config.optimizer]
    optimizer = CompiledTraining(mlp, config, batches, weights) if config.compile else eager(parameters)
    training = _identity(mlp, config, images, labels) if checkpoint else {}
    epochs, best = _resume(checkpoint, mlp, optimizer, training) if checkpoint else ([], {})
    yield from epochs

    for number in range(len(epochs) + 1, config.epochs + 1):
        if is_exhausted(epochs, config):
            break
        # Not around the yield, where the caller's code runs
        with torch_threads(config.threads or choose_threads(mlp, config)), flush_denormals():
            mlp.train()
            inputs = (augment(images, config.augmentation) if config.augmentation else images).flatten(1)
            order = torch.randperm(len(images), device=device)[: batches * config.batch_size]
            epoch_rates = rates[(number - 1) * batches : number * batches]
            if isinstance(optimizer, CompiledTraining):
                loss_of_batch = optimizer.train_epoch(inputs, labels, order, epoch_rates)
            else:
                losses = []
                for rows, lr in zip(order.split(config.batch_size), epoch_rates, strict=True):
                    logits, targets = mlp(inputs.index_select(0, rows)), labels.index_select(0, rows)
                    loss = cross_entropy(logits, targets, weights, label_smoothing=config.label_smoothing)
                    gradients = torch.autograd.grad(loss, parameters)  # `backward` would leave them to be cleared
                    optimizer.step(gradients, lr)
                    losses.append(loss.detach())
                loss_of_batch = torch.stack(losses)
            scores = (score(mlp, *each) if each else None for each in (test, val))
            epoch = Epoch(number, loss_of_batch.mean().item(), loss_of_batch[-1].item(), *scores)
        if not math.isfinite(epoch.train_loss):
            problem = f"the loss became {epoch.train_loss} in epoch {number}"
            raise FloatingPointError(f"{problem}: lower the learning rate, which is {config.lr}")
        epochs.append(epoch)
        if config.patience and best_epoch(epochs) == number:
            best = {name: value.clone() for name, value in mlp.state_dict().items()}
        if checkpoint:
            _save(checkpoint, mlp, optimizer, training, epochs, best)
        yield epoch
    if best:
        mlp.load_state_dict(best)
    mlp.cpu()


def best_epoch(epochs: Sequence[Epoch]) -> int:
    """Return the number of the first epoch with the lowest validation loss."""
    losses = [epoch.val.loss if epoch.val else math.inf for epoch in epochs]
    return losses.index(min(losses)) + 1


def is_exhausted(epochs: Sequence[Epoch], config: TrainConfig) -> bool:
    """Return whether as many epochs have passed since the best one as the patience of `config` allows.

    Never with the one-cycle schedule: it gains most in its last epochs, when the learning rate falls.
    """
    if not (config.patience and config.schedule == "constant" and epochs):
        return False
    return len(epochs) - best_epoch(epochs) >= config.patience


def balanced_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return a weight for each class (classes,), with which each weighs the same in `labels` (N,): their mean is 1."""
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / (counts.count_nonzero() * counts.clamp_min(1))


def check_batch_size(config: TrainConfig, *, images: int) -> None:
    """Raise `FieldError` if a batch is larger than the training set."""
    wanted = f"at most the {images:,} training images"
    check(config.batch_size <= images, "batch_size", f"{config.batch_size:,}", wanted)


def adapt_batch_size(config: TrainConfig, *, images: int) -> TrainConfig:
    """Return `config` with a smaller batch if its recipe's own is too large for a training split of so many `images`.

    Too large gives fewer than `MIN_STEPS` steps an epoch. A batch size that differs from the recipe's was given, and
    stays.
    """
    largest = largest_batch(without_validation(config, images))
    if config.batch_norm and largest < 2:
        raise FieldError("dataset", f"leaves {counted(largest, 'image')} to train on, and batch norm needs 2: add some")
    if config.batch_size != RECIPES[config.recipe].batch_size or config.batch_size <= largest:
        return config
    return replace(config, batch_size=largest)


def largest_batch(images: int) -> int:
    """Return the largest power of two that gives `MIN_STEPS` an epoch, but at least `MIN_BATCH`, or all the images."""
    power_of_two: int = 2 ** int(math.log2(max(images // MIN_STEPS, 1)))
    return min(max(MIN_BATCH, power_of_two), images)


def without_validation(config: TrainConfig, images: int) -> int:
    """Return how many of so many `images` are left to train on."""
    return images - math.ceil(config.validation * images)


def check_trainable(config: TrainConfig, schema: Schema, *, images: int) -> None:
    """Raise `FieldError` if `config` cannot be trained with so many `images` of that `schema` on this machine."""
    check_batch_size(config, images=without_validation(config, images))
    choose_device(config)
    sizes = (schema.height * schema.width, *config.hidden, len(schema.classes))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = 16 * sum(a * b for a, b in pairwise(sizes))  # bytes: each weight, its gradient and Adam's two averages
    if needed > memory:
        takes = f"{needed / 1e9:,.0f} GB of memory, and this machine has {memory / 1e9:,.0f}"
        raise FieldError("hidden", f"{' '.join(map(str, config.hidden))} takes {takes}: use fewer units")


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
    """Return 1 for small steps: more threads barely help on a quiet machine, and hurt on a busy one."""
    weights = sum(a * b for a, b in pairwise(mlp.sizes))
    flops = 6 * config.batch_size * weights  # forward 2, backward 4
    return 1 if flops < 400e6 else torch.get_num_threads()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Make torch use `count` threads within the block."""
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


def _save(
    checkpoint: Path,
    mlp: MLP,
    optimizer: Optimizer,
    training: Mapping[str, Any],
    epochs: list[Epoch],
    best: dict[str, torch.Tensor],
) -> None:
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        random["cuda"] = torch.cuda.get_rng_state()
    state = {"mlp": mlp.state_dict(), "best": best, "optimizer": optimizer.state_dict(), "random": random}
    progress = {"epochs": [*map(asdict, epochs)], "training": training}
    checkpoints.save(checkpoint, state | progress)


def _resume(
    checkpoint: Path, mlp: MLP, optimizer: Optimizer, training: Mapping[str, Any]
) -> tuple[list[Epoch], dict[str, torch.Tensor]]:
    """Restore what `_save` wrote, and return the epochs that are done, and the best one's weights.

    Without a checkpoint, write the first, as a run that is killed in its first epoch must be found too.
    """
    state = checkpoints.load(checkpoint)
    if state and state.get("training") != training:
        logger.warning(f"The checkpoint {checkpoint} is another training's: starting from the first epoch")
        state = None
    if state is None:
        _save(checkpoint, mlp, optimizer, training, [], {})
        return [], {}
    mlp.load_state_dict(state["mlp"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"]["cpu"])
    if "cuda" in state["random"]:
        torch.cuda.set_rng_state(state["random"]["cuda"])
    return [*map(_epoch, state["epochs"])], state["best"]


def _identity(mlp: MLP, config: TrainConfig, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Return what tells a checkpoint of this training from one that was put in its place."""
    data = hashlib.sha256(labels.cpu().numpy().tobytes() + images[:: len(images) // 100 + 1].cpu().numpy().tobytes())
    return {"config": asdict(config), "sizes": mlp.sizes, "data": data.hexdigest()}


def _epoch(fields: Mapping[str, Any]) -> Epoch:
    scores = {name: Score(**fields[name]) for name in ("test", "val") if fields[name]}
    return Epoch(**{**fields, **scores})
