"""The compiled step trains as the eager one does."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from mnist_pipeline.config import Device, FieldError, OptimizerName, TrainConfig
from mnist_pipeline.training.loop import fit
from mnist_pipeline.training.model import MLP

IMAGES = torch.rand(280, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(280) % 10
SMALL: dict[str, Any] = {"hidden": (16,), "epochs": 2, "lr": 0.01, "schedule": "one-cycle"}
COMPILER = pytest.mark.skipif(
    not shutil.which("g++") and not shutil.which("clang++"), reason="there is no C++ compiler"
)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card")


def train(
    config: TrainConfig, checkpoint: Path | None = None, *, stop_after: int | None = None
) -> tuple[MLP, list[float]]:
    mlp = MLP.from_config(config, inputs=64, outputs=10)
    epochs = islice(fit(mlp, IMAGES, LABELS, config, checkpoint=checkpoint), stop_after)
    return mlp, [epoch.train_loss for epoch in epochs]


def distance(one: MLP, other: MLP) -> float:
    """Return the largest difference of a weight."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.float() - b.float()).abs().max()) for a, b in pairs)


@pytest.mark.slow
@COMPILER
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_a_compiled_training_ends_as_an_eager_one_even_if_interrupted(device: Device, tmp_path: Path) -> None:
    config = TrainConfig(**SMALL, batch_size=40, batch_norm=True, label_smoothing=0.1, device=device)
    eager, eager_losses = train(config)
    compiled, losses = train(replace(config, compile=True))
    train(replace(config, compile=True), tmp_path / "checkpoint", stop_after=1)
    resumed, _ = train(replace(config, compile=True), tmp_path / "checkpoint")
    assert losses == pytest.approx(eager_losses, rel=1e-3)
    assert distance(compiled, eager) < 1e-4
    assert distance(resumed, compiled) < 1e-6


@COMPILER
@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_the_step_that_is_compiled_trains_as_the_eager_loop_with_every_optimizer(optimizer: OptimizerName) -> None:
    config = TrainConfig(**SMALL, batch_size=20, optimizer=optimizer)  # 14 batches, two per call
    eager, eager_losses = train(config)
    with torch.compiler.set_stance("force_eager"):  # the same code, left uncompiled
        uncompiled, losses = train(replace(config, compile=True))
    assert losses == pytest.approx(eager_losses, rel=1e-4)
    assert distance(uncompiled, eager) < 1e-5


def test_a_missing_compiler_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(FieldError, match=r"compile needs a C\+\+ compiler, and there is neither"):
        train(TrainConfig(compile=True))
