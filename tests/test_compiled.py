"""The compiled step trains as torch's own optimizers do."""

import shutil
from typing import Any, get_args

import pytest
import torch

from mnist_pipeline.config import Device, Optimizer, TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.model import MLP
from mnist_pipeline.optimizers import BETA1, BETA2, OPTIMIZERS, RULES
from mnist_pipeline.training import fit


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_every_rule_updates_as_torch_does(name: Optimizer) -> None:
    torch.manual_seed(0)
    theirs, m, v = torch.randn(20), torch.zeros(20), torch.zeros(20)
    ours, update = theirs.clone(), OPTIMIZERS[name]([theirs])
    for step in range(1, 11):
        gradient = torch.randn(20)
        update([gradient], 0.01)
        numbers = torch.tensor([0.01, 0.01 / (1 - BETA1**step), (1 - BETA2**step) ** -0.5])
        RULES[name](ours, gradient, m, v, *numbers)
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.skipif(not shutil.which("g++") and not shutil.which("clang++"), reason="there is no C++ compiler")
@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "schedule": "one-cycle"}])
@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no card"))]
)
def test_it_follows_the_eager_loop(splits: Splits, options: dict[str, Any], device: Device) -> None:
    def train(*, compiled: bool) -> tuple[list[float], MLP]:
        small: dict[str, Any] = {"hidden": (16,), "batch_size": 1000, "epochs": 2, "lr": 0.01, "device": device}
        config = TrainConfig(**small, **options, compile=compiled)
        mlp = MLP.from_config(config, inputs=784, outputs=10)
        return [epoch.train_loss for epoch in fit(mlp, splits.test.images, splits.test.labels, config)], mlp

    (eager_losses, eager), (compiled_losses, compiled) = train(compiled=False), train(compiled=True)
    assert compiled_losses == pytest.approx(eager_losses, rel=1e-3)
    for name, value in eager.state_dict().items():
        assert torch.allclose(compiled.state_dict()[name].float(), value.float(), atol=0.02), name
