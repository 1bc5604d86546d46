"""The training step compiled into one graph: forward, backward and update, several batches at a time."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from mnist_pipeline.config import FieldError, OptimizerName, TrainConfig
from mnist_pipeline.training.model import MLP

UNROLL = 5  # batches per call: more save little, and take longer to compile
BETA1, BETA2 = 0.9, 0.999
T = torch.Tensor


class CompiledTraining:
    """Trains `mlp` with `config` in epochs of `batches`; the step is compiled when it is first taken.

    `weights` (classes,) are those of the classes in the loss.
    On a CUDA card the graph is captured as well. Our commands keep the compiler's cache at the project's root.

    Raises `FieldError` if there is no C++ compiler, or at the first step if it fails.
    """

    def __init__(self, mlp: MLP, config: TrainConfig, batches: int, weights: T | None = None) -> None:
        if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
            raise FieldError("compile", "needs a C++ compiler, and there is neither g++ nor clang++: install one")
        self.batch_size = config.batch_size
        self.unroll = unroll = next(count for count in range(UNROLL, 0, -1) if batches % count == 0)
        self.steps_taken = 0
        update = UPDATES[config.optimizer]
        parameters = list(mlp.parameters())
        self.buffers = buffers = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        for buffer in chain(*buffers):
            torch._dynamo.mark_static_address(buffer)  # noqa: SLF001  # else a graph that writes to it is not captured

        def take_steps(images: T, labels: T, coefficients: T) -> T:
            losses = []
            for batch, targets, numbers in zip(images.chunk(unroll), labels.chunk(unroll), coefficients, strict=True):
                loss = cross_entropy(mlp(batch), targets, weights, label_smoothing=config.label_smoothing)
                gradients = torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    for parameter, gradient, (m, v) in zip(parameters, gradients, buffers, strict=True):
                        update(parameter, gradient, m, v, *numbers)
                losses.append(loss.detach())
            return torch.stack(losses)

        torch._dynamo.config.trace_autograd_ops = True  # noqa: SLF001  # lets the backward pass into the graph
        mode = "reduce-overhead" if parameters[0].device.type == "cuda" else "default"
        self.graph = torch.compile(take_steps, fullgraph=True, mode=mode)

    def train_epoch(self, images: T, labels: T, order: T, rates: list[float]) -> T:
        """Train on the rows of `images` (N, inputs) and `labels` (N,) in `order`; return the loss of each batch."""
        losses = []
        coefficients = torch.tensor([self._coefficients(rate) for rate in rates], device=images.device)
        chunks = zip(order.split(self.unroll * self.batch_size), coefficients.split(self.unroll), strict=True)
        for rows, chunk_coefficients in chunks:
            with _compiler_errors():
                chunk_losses = self.graph(
                    images.index_select(0, rows), labels.index_select(0, rows), chunk_coefficients
                )
            losses.append(chunk_losses.clone())  # a captured graph writes the next ones to the same place
        return torch.cat(losses)

    def _coefficients(self, rate: float) -> tuple[float, float, float]:
        """Return the learning rate of the next step, and with it Adam's bias corrections."""
        self.steps_taken += 1
        return rate, rate / (1 - BETA1**self.steps_taken), (1 - BETA2**self.steps_taken) ** -0.5

    def state_dict(self) -> dict[str, Any]:
        return {"buffers": [list(pair) for pair in self.buffers], "steps_taken": self.steps_taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for pair, saved_pair in zip(self.buffers, state["buffers"], strict=True):
            for buffer, saved in zip(pair, saved_pair, strict=True):
                buffer.copy_(saved)
        self.steps_taken = state["steps_taken"]


@contextlib.contextmanager
def _compiler_errors() -> Iterator[None]:
    """Raise `FieldError` with the compiler's own line if it failed: its disk is full, say."""
    try:
        yield
    except RuntimeError as error:
        reasons = (r"(\w[\w ]*: )+No space left on device", r"\b((error|InvalidCxxCompiler): |\w+Error: \[Errno ).*")
        if found := next(filter(None, (re.search(reason, str(error)) for reason in reasons)), None):
            raise FieldError("compile", f"cannot be used, as compiling failed: {found[0]}") from error
        raise


# Each updates one parameter in place, given its gradient, two buffers of its shape, the learning rate, and for Adam's
# bias corrections lr / (1 - β₁ᵗ) and 1 / √(1 - β₂ᵗ), as torch's own class does. Compiled, each is a single loop.


def _sgd(p: T, g: T, m: T, _v: T, lr: T, *_: T, momentum: float = 0.0, nesterov: bool = False) -> None:
    m.mul_(momentum).add_(g)
    p.sub_(lr * (g + momentum * m if nesterov else m))


def _adagrad(p: T, g: T, _m: T, v: T, lr: T, *_: T) -> None:
    p.sub_(lr * g / (v.addcmul_(g, g).sqrt() + 1e-10))


def _rmsprop(p: T, g: T, _m: T, v: T, lr: T, *_: T) -> None:
    p.sub_(lr * g / (v.mul_(0.99).addcmul_(g, g, value=0.01).sqrt() + 1e-8))


def _adam(p: T, g: T, m: T, v: T, lr: T, *corrections: T, weight_decay: float = 0.0) -> None:
    corrected_lr, scale = corrections
    p.sub_(lr * weight_decay * p)
    m.lerp_(g, 1 - BETA1)
    v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
    p.sub_(corrected_lr * m / (v.sqrt() * scale + 1e-8))


UPDATES: dict[OptimizerName, Callable[..., None]] = {
    "sgd": _sgd,
    "momentum": partial(_sgd, momentum=0.9),
    "nesterov": partial(_sgd, momentum=0.9, nesterov=True),
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamw": partial(_adam, weight_decay=0.01),
}
