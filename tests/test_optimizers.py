"""Each optimizer, eager and as a rule, does what the class in torch does."""

from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch

from mnist_pipeline.config import Optimizer
from mnist_pipeline.optimizers import BETA1, BETA2, OPTIMIZERS, RULES

CLASSES: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_every_one_updates_as_the_class_in_torch_does(name: Optimizer) -> None:
    torch.manual_seed(0)
    theirs = torch.randn(20, requires_grad=True)
    eager, compiled, m, v = theirs.detach().clone(), theirs.detach().clone(), torch.zeros(20), torch.zeros(20)
    optimizer, update = CLASSES[name]([theirs], lr=0.01), OPTIMIZERS[name]([eager])
    for step in range(1, 11):
        theirs.grad = gradient = torch.randn(20)
        optimizer.step()
        update([gradient], 0.01)
        numbers = torch.tensor([0.01, 0.01 / (1 - BETA1**step), (1 - BETA2**step) ** -0.5])
        RULES[name](compiled, gradient, m, v, *numbers)
    assert torch.allclose(eager, theirs, atol=1e-6)
    assert torch.allclose(compiled, theirs, atol=1e-6)
