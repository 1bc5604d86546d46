"""From gradients to a step: torch's optimizers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.optim.adam import adam

from mnist_pipeline.config import OptimizerName


class Adam:
    """Adam, or with `weight_decay` AdamW, in the functional form of `torch.optim`.

    At each step of a small network the Python in `torch.optim.Adam.step` takes as long as the update itself: a tenth of
    an epoch (benchmarks/epochs.py).
    """

    def __init__(self, parameters: Sequence[torch.Tensor], *, weight_decay: float = 0.0) -> None:
        self.parameters = [parameter.detach() for parameter in parameters]
        self.weight_decay = weight_decay
        self.exp_avgs = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.exp_avg_sqs = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [parameter.new_zeros(()) for parameter in self.parameters]

    def step(self, gradients: Sequence[torch.Tensor], lr: float) -> None:
        adam(
            self.parameters,
            list(gradients),
            self.exp_avgs,
            self.exp_avg_sqs,
            [],  # for amsgrad
            self.steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=lr,
            weight_decay=self.weight_decay,
            decoupled_weight_decay=self.weight_decay > 0,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"exp_avgs": self.exp_avgs, "exp_avg_sqs": self.exp_avg_sqs, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, tensors in self.state_dict().items():
            for tensor, saved in zip(tensors, state[name], strict=True):
                tensor.copy_(saved)


class TorchOptimizer:
    """An optimizer class of `torch.optim`."""

    def __init__(
        self, make: Callable[..., torch.optim.Optimizer], parameters: Sequence[torch.Tensor], **settings: Any
    ) -> None:
        self.parameters = parameters
        self.optimizer = make(parameters, **settings)
        self.state_dict = self.optimizer.state_dict
        self.load_state_dict = self.optimizer.load_state_dict

    def step(self, gradients: Sequence[torch.Tensor], lr: float) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()


OPTIMIZERS: dict[OptimizerName, Callable[[Sequence[torch.Tensor]], Adam | TorchOptimizer]] = {
    "sgd": partial(TorchOptimizer, torch.optim.SGD, fused=True),
    "momentum": partial(TorchOptimizer, torch.optim.SGD, momentum=0.9, fused=True),
    "nesterov": partial(TorchOptimizer, torch.optim.SGD, momentum=0.9, nesterov=True, fused=True),
    "adagrad": partial(TorchOptimizer, torch.optim.Adagrad),  # its fused kernel exists on the CPU only
    "rmsprop": partial(TorchOptimizer, torch.optim.RMSprop),
    "adam": Adam,
    "adamw": partial(Adam, weight_decay=0.01),
}
