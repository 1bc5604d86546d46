"""Each optimizer updates as torch's own class does."""

from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch

from mnist_pipeline.config import OptimizerName
from mnist_pipeline.training.compiled import BETA1, BETA2, UPDATES
from mnist_pipeline.training.optimizers import OPTIMIZERS

CLASSES: dict[OptimizerName, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
RATES = [0.01, 0.02, 0.005] * 4


def trajectory(name: OptimizerName) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return twelve random gradients, and the parameters of torch's class before the first and after each."""
    torch.manual_seed(0)
    parameter = torch.randn(20, requires_grad=True)
    gradients, parameters = [torch.randn(20) for _ in RATES], [parameter.detach().clone()]
    optimizer = CLASSES[name]([parameter], lr=RATES[0])
    for gradient, lr in zip(gradients, RATES, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        parameter.grad = gradient
        optimizer.step()
        parameters.append(parameter.detach().clone())
    return gradients, parameters


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_optimizer_updates_as_torchs_class_does(name: OptimizerName) -> None:
    gradients, (parameter, *expected) = trajectory(name)
    optimizer = OPTIMIZERS[name]([parameter])
    for gradient, lr, wanted in zip(gradients, RATES, expected, strict=True):
        optimizer.step([gradient], lr)
        assert torch.allclose(parameter, wanted, atol=1e-6)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_update_of_the_compiled_step_is_that_of_torchs_class(name: OptimizerName) -> None:
    gradients, (parameter, *expected) = trajectory(name)
    m, v = torch.zeros(20), torch.zeros(20)
    for step, (gradient, lr, wanted) in enumerate(zip(gradients, RATES, expected, strict=True), start=1):
        coefficients = torch.tensor([lr, lr / (1 - BETA1**step), (1 - BETA2**step) ** -0.5])
        UPDATES[name](parameter, gradient, m, v, *coefficients)
        assert torch.allclose(parameter, wanted, atol=1e-6)
