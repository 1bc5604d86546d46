"""An interrupted training ends as if it had never stopped, or reports that it starts anew."""

import hashlib
import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from mnist_pipeline.config import OptimizerName, TrainConfig
from mnist_pipeline.training import checkpoints
from mnist_pipeline.training.loop import Epoch, best_epoch, fit
from mnist_pipeline.training.model import MLP
from tests.training.test_compiled import COMPILER

IMAGES = torch.rand(200, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(200) % 10


def train(
    config: TrainConfig, checkpoint: Path | None = None, *, stop_after: int | None = None
) -> tuple[MLP, list[Epoch]]:
    mlp = MLP.from_config(config, inputs=784, outputs=10)
    val = (IMAGES[:50], LABELS[:50].roll(1)) if config.validation else None  # whose labels it does not learn
    return mlp, list(islice(fit(mlp, IMAGES, LABELS, config, val=val, checkpoint=checkpoint), stop_after))


def equal(one: MLP, other: MLP) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 4])
def test_a_training_resumed_after_any_epoch_ends_the_same_bit_for_bit(stop_after: int, tmp_path: Path) -> None:
    config = TrainConfig(
        epochs=4, hidden=(16,), dropout=0.3, batch_norm=True, schedule="one-cycle", batch_size=32, augmentation=0.5
    )
    whole, epochs = train(config)
    train(config, tmp_path / "checkpoint", stop_after=stop_after)
    resumed, resumed_epochs = train(config, tmp_path / "checkpoint")
    assert equal(whole, resumed)
    assert resumed_epochs == epochs


@pytest.mark.parametrize("stop_after", range(8))
@pytest.mark.parametrize("compile_", [False, pytest.param(True, marks=COMPILER)])
def test_the_best_epochs_weights_survive_an_interruption_after_any_epoch(
    stop_after: int, compile_: bool, tmp_path: Path
) -> None:
    config = TrainConfig(
        epochs=50, hidden=(16,), batch_norm=True, batch_size=40, lr=0.01, validation=0.25, patience=3, compile=compile_
    )
    with torch.compiler.set_stance("force_eager"):  # the step that would be compiled
        whole, epochs = train(config)
        train(config, tmp_path / "checkpoint", stop_after=stop_after)
        resumed, resumed_epochs = train(config, tmp_path / "checkpoint")
    assert len(epochs) == best_epoch(epochs) + 3 < 8
    assert equal(whole, resumed)
    assert resumed_epochs == epochs


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_every_optimizer_resumes_with_its_state(optimizer: OptimizerName, tmp_path: Path) -> None:
    config = TrainConfig(epochs=3, optimizer=optimizer, hidden=(16,))
    whole, _ = train(config)
    train(config, tmp_path / "checkpoint", stop_after=2)
    assert equal(whole, train(config, tmp_path / "checkpoint")[0])


def test_epochs_that_are_done_are_yielded_again_without_training(tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, hidden=(16,))
    trained, epochs = train(config, tmp_path / "checkpoint")
    mlp, batches = MLP.from_config(config, inputs=784, outputs=10), []
    mlp.register_forward_hook(lambda *_: batches.append(1))
    assert list(fit(mlp, IMAGES, LABELS, config, checkpoint=tmp_path / "checkpoint")) == epochs
    assert equal(mlp, trained)
    assert not batches


def flip_a_bit(file: bytes) -> bytes:
    return file[:1000] + bytes([file[1000] ^ 1]) + file[1001:]


def cut_off(file: bytes) -> bytes:
    return file[:1000]


def emptied(_: bytes) -> bytes:
    return b""


def hostile(_: bytes) -> bytes:
    content = pickle.dumps(print, protocol=2)  # intact, and nothing that a checkpoint would hold
    return hashlib.sha256(content).digest() + content


@pytest.mark.parametrize("damage", [flip_a_bit, hostile, cut_off, emptied])
def test_a_damaged_checkpoint_is_ignored_with_a_warning(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, checkpoint = TrainConfig(epochs=2, hidden=(16,)), tmp_path / "checkpoint"
    train(config, checkpoint, stop_after=1)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    resumed, _ = train(config, checkpoint)
    assert f"The checkpoint {checkpoint} is damaged" in caplog.text
    assert equal(resumed, train(config)[0])


@pytest.mark.parametrize("other", [{"hidden": (8,)}, {"lr": 0.5}])
def test_a_checkpoint_of_another_training_is_ignored_with_a_warning(
    other: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, checkpoint = TrainConfig(epochs=2, hidden=(16,)), tmp_path / "checkpoint"
    train(replace(config, **other), checkpoint, stop_after=1)
    resumed, _ = train(config, checkpoint)
    assert f"The checkpoint {checkpoint} is another training's" in caplog.text
    assert equal(resumed, train(config)[0])


def test_a_checkpoint_of_other_data_is_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, checkpoint = TrainConfig(epochs=2, hidden=(16,)), tmp_path / "checkpoint"
    mlp = MLP.from_config(config, inputs=784, outputs=10)
    next(fit(mlp, IMAGES.flip(0), LABELS, config, checkpoint=checkpoint))
    resumed, _ = train(config, checkpoint)
    assert f"The checkpoint {checkpoint} is another training's" in caplog.text
    assert equal(resumed, train(config)[0])


def test_a_checkpoint_is_read_back_and_no_other_file_is_left(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "checkpoint", {"a": torch.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    state = checkpoints.load(tmp_path / "checkpoint")
    assert state
    assert torch.equal(state["a"], torch.zeros(3))


def test_a_checkpoint_is_a_hash_and_a_torch_file(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "checkpoint", {"a": 1})
    file = (tmp_path / "checkpoint").read_bytes()
    assert torch.load(io.BytesIO(file[32:]), weights_only=True) == {"a": 1}
