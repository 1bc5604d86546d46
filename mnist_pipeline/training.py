"""The training loop, on one screen."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, pairwise, repeat
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn.functional import cross_entropy

from mnist_pipeline import checkpoints
from mnist_pipeline.augmentation import distort
from mnist_pipeline.config import TrainConfig
from mnist_pipeline.model import MLP
from mnist_pipeline.optimizers import OPTIMIZERS


class Step(Protocol):
    """Takes a step on each of `stride` batches. Its state, without the weights, can be kept and restored."""

    stride: int

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, rates: list[float]) -> torch.Tensor:
        """Learn from the batches, with a learning rate for each, and give their losses."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


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

    Cross-entropy over shuffled batches, the last short one dropped. The random numbers are torch's global ones: the
    same seed before, the same weights after, bit for bit on the CPU. `mlp` is left on the CPU.

    Where a `checkpoint` is named, it is written before each epoch is yielded, and a training that finds one goes on
    from it: the epochs that it had behind it are yielded again first, and the weights end as if it had never stopped.

    Raises `ValueError` where there are fewer images than a batch takes or no such device, and `FloatingPointError` at
    the end of an epoch whose loss is not finite.
    """
    if len(images) < config.batch_size:
        raise ValueError(f"--batch-size must be at most the {len(images):,} training images, not {config.batch_size:,}")
    device = choose_device(config)
    images, labels = images.to(device), labels.to(device)  # all of it, once
    mlp.to(device)
    _lay_out(mlp)
    batches = len(images) // config.batch_size
    step = make_step(mlp, config, batches)
    epochs = _restore(checkpoint, mlp, step) if checkpoint else []
    yield from epochs
    rates = islice(learning_rates(config, batches), len(epochs) * batches, None)
    for number in range(len(epochs) + 1, config.epochs + 1):
        with threads(config.threads or choose_threads(mlp, config)), flushing_denormals():
            mlp.train()
            losses = []
            drawn = (distort(images, config.distortion) if config.distortion else images).flatten(1)
            shuffled = torch.randperm(len(images), device=device)[: batches * config.batch_size]
            for rows in shuffled.split(step.stride * config.batch_size):
                losses.append(
                    step(drawn.index_select(0, rows), labels.index_select(0, rows), [*islice(rates, step.stride)])
                )
        loss = torch.cat(losses)
        epoch = Epoch(number, loss.mean().item(), loss[-1].item())
        if not math.isfinite(epoch.train_loss):
            raise FloatingPointError(f"the loss became {epoch.train_loss} in epoch {number}: lower --lr ({config.lr})")
        epochs.append(epoch)
        if checkpoint:
            _save(checkpoint, mlp, step, epochs)
        yield epoch
    mlp.cpu()
    for weights in mlp.parameters():
        weights.data = weights.data.contiguous()


def _lay_out(mlp: MLP) -> None:
    """Let weights (outputs, inputs) lie in memory the other way, as the forward product reads them in half the time."""
    for weights in mlp.parameters():
        weights.data = weights.data.t().contiguous().t()


def make_step(mlp: MLP, config: TrainConfig, batches: int) -> Step:
    """Make what takes the steps: an epoch has `batches` of them."""
    if config.compile:
        from mnist_pipeline.compiled import CompiledStep

        return CompiledStep(mlp, config, batches)
    return EagerStep(mlp, config)


class EagerStep:
    """One batch a step, forward and backward and update, each an operation of its own."""

    stride = 1

    def __init__(self, mlp: MLP, config: TrainConfig) -> None:
        bfloat16 = takes_bfloat16(config, next(mlp.parameters()).device)
        self.loss_of = partial(loss_of, mlp, label_smoothing=config.label_smoothing, bfloat16=bfloat16)
        self.parameters = list(mlp.parameters())
        # As they lie in memory: what is not contiguous, the fused kernels would copy to and fro
        self.update = OPTIMIZERS[config.optimizer]([parameter.detach().t() for parameter in self.parameters])
        self.state_dict = self.update.state_dict
        self.load_state_dict = self.update.load_state_dict

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, rates: list[float]) -> torch.Tensor:
        (rate,) = rates
        loss = self.loss_of(images, labels)
        gradients = torch.autograd.grad(loss, self.parameters)  # `backward` would add each to one that is zero
        self.update([gradient.t() for gradient in gradients], rate)
        return loss.detach().unsqueeze(0)


def loss_of(
    mlp: MLP, images: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float, bfloat16: bool
) -> torch.Tensor:
    """Give the mean loss over a batch: float32 `images` (N, inputs), int64 `labels` (N,)."""
    if bfloat16:
        with torch.autocast(images.device.type, torch.bfloat16):  # the weights, and their updates, stay float32
            logits = mlp(images).float()
    else:
        logits = mlp(images)
    return cross_entropy(logits, labels, label_smoothing=label_smoothing)


def _save(checkpoint: Path, mlp: MLP, step: Step, epochs: list[Epoch]) -> None:
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        random["cuda"] = torch.cuda.get_rng_state()
    state = {"mlp": mlp.state_dict(), "step": step.state_dict(), "random": random, "epochs": [*map(asdict, epochs)]}
    checkpoints.save(checkpoint, state)


def _restore(checkpoint: Path, mlp: MLP, step: Step) -> list[Epoch]:
    """Put back what `_save` kept, and return the epochs that are done; with no checkpoint, keep the beginning."""
    state = checkpoints.load(checkpoint)
    if state is None:
        _save(checkpoint, mlp, step, [])
        return []
    mlp.load_state_dict(state["mlp"])
    step.load_state_dict(state["step"])
    torch.set_rng_state(state["random"]["cpu"])
    if "cuda" in state["random"]:
        torch.cuda.set_rng_state(state["random"]["cuda"])
    return [Epoch(**fields) for fields in state["epochs"]]


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


def takes_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Say whether `config` asks for bfloat16 and `device` has instructions for it: without, it would be slower."""
    if not config.bfloat16:
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()  # of the processor
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


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


@contextlib.contextmanager
def flushing_denormals() -> Iterator[None]:
    """Take a number below the normal ones of float32 (1e-38) for zero within.

    Adam's means of a gradient fade into such numbers where a pixel is seldom inked, and a processor takes a hundred
    times as long over each.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
