"""How a gradient becomes a step: torch's own optimizers, and the same as rules for a compiled step."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch

from mnist_pipeline.config import Optimizer

BETA1, BETA2 = 0.9, 0.999


class Update(Protocol):
    """Takes a step on weights that it holds. Its state, without the weights, can be kept and restored."""

    def __call__(self, gradients: list[torch.Tensor], lr: float) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class FusedAdam:
    """Adam, or with decoupled weight decay AdamW, in one kernel.

    It calls the kernel itself: what `torch.optim.Adam` does in Python before it, at each step, adds a fifth to an epoch
    of a small network.
    """

    def __init__(self, weights: list[torch.Tensor], *, decoupled_weight_decay: float = 0.0) -> None:
        self.weights = weights
        self.means = [torch.zeros_like(weight) for weight in weights]
        self.squares = [torch.zeros_like(weight) for weight in weights]
        self.steps = [weights[0].new_zeros(())] * len(weights)  # one number, which the kernel wants for each
        self.weight_decay = decoupled_weight_decay
        self.kernel = torch._fused_adamw_ if decoupled_weight_decay else torch._fused_adam_

    def __call__(self, gradients: list[torch.Tensor], lr: float) -> None:
        self.steps[0].add_(1)
        self.kernel(
            self.weights,
            gradients,
            self.means,
            self.squares,
            [],
            self.steps,
            lr=lr,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=self.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, tensors in self.state_dict().items():
            for tensor, kept in zip(tensors, state[name], strict=True):
                tensor.copy_(kept)


class ClassUpdate:
    """A step of a class of torch.optim."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer], weights: list[torch.Tensor]) -> None:
        self.weights = weights
        self.optimizer = make(self.weights)
        self.state_dict = self.optimizer.state_dict
        self.load_state_dict = self.optimizer.load_state_dict

    def __call__(self, gradients: list[torch.Tensor], lr: float) -> None:
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()


# Each is made of the weights. `fused` updates all of them in one kernel, where torch has one.
OPTIMIZERS: dict[Optimizer, Callable[[list[torch.Tensor]], Update]] = {
    "sgd": partial(ClassUpdate, partial(torch.optim.SGD, fused=True)),
    "momentum": partial(ClassUpdate, partial(torch.optim.SGD, momentum=0.9, fused=True)),
    "nesterov": partial(ClassUpdate, partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True)),
    "adagrad": partial(ClassUpdate, torch.optim.Adagrad),  # its fused kernel is for the CPU alone
    "rmsprop": partial(ClassUpdate, torch.optim.RMSprop),
    "adam": FusedAdam,
    "adamw": partial(FusedAdam, decoupled_weight_decay=0.01),
}

# A rule updates one parameter in place, given its gradient, two buffers of its shape, the learning rate, and for Adam's
# bias corrections lr / (1 - β₁ᵗ) and 1 / √(1 - β₂ᵗ). Each does what torch's own does; compiled, it melts into one
# loop over the memory, where that stays many small ones.
Rule = Callable[..., None]


def _sgd(p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, lr: torch.Tensor, *_: object) -> None:
    p.sub_(lr * g)


def _momentum(p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, lr: torch.Tensor, *_: object) -> None:
    p.sub_(lr * m.mul_(0.9).add_(g))


def _nesterov(p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, lr: torch.Tensor, *_: object) -> None:
    p.sub_(lr * (g + 0.9 * m.mul_(0.9).add_(g)))


def _adagrad(p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, lr: torch.Tensor, *_: object) -> None:
    p.sub_(lr * g / (v.addcmul_(g, g).sqrt() + 1e-10))


def _rmsprop(p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, lr: torch.Tensor, *_: object) -> None:
    p.sub_(lr * g / (v.mul_(0.99).addcmul_(g, g, value=0.01).sqrt() + 1e-8))


def _adam(
    p: torch.Tensor,
    g: torch.Tensor,
    m: torch.Tensor,
    v: torch.Tensor,
    lr: torch.Tensor,
    corrected: torch.Tensor,
    scale: torch.Tensor,
) -> None:
    m.lerp_(g, 1 - BETA1)
    v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
    p.sub_(corrected * m / (v.sqrt() * scale + 1e-8))


def _adamw(
    p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, lr: torch.Tensor, *corrections: torch.Tensor
) -> None:
    p.sub_(lr * 0.01 * p)
    _adam(p, g, m, v, lr, *corrections)


RULES: dict[Optimizer, Rule] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamw": _adamw,
}
