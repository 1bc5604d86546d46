"""The compiled step trains as the eager one does."""

import shutil
from typing import Any

import pytest
import torch

from mnist_pipeline.config import Device, TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.model import MLP
from mnist_pipeline.training import fit


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
