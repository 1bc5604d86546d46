"""A training that was interrupted ends as if it had never stopped, or says that it begins anew."""

import hashlib
import io
import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import get_args

import pytest
import torch

from mnist_pipeline import checkpoints
from mnist_pipeline.config import Optimizer, TrainConfig
from mnist_pipeline.model import MLP
from mnist_pipeline.training import Epoch, fit

IMAGES = torch.rand(200, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(200) % 10


def train(
    config: TrainConfig, checkpoint: Path | None = None, *, stop_after: int | None = None
) -> tuple[MLP, list[Epoch]]:
    mlp = MLP.from_config(config, inputs=784, outputs=10)
    return mlp, list(islice(fit(mlp, IMAGES, LABELS, config, checkpoint=checkpoint), stop_after))


def equal(one: MLP, other: MLP) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 4])
def test_whatever_the_epoch_the_weights_end_the_same_bit_for_bit(stop_after: int, tmp_path: Path) -> None:
    config = TrainConfig(epochs=4, dropout=0.3, batch_norm=True, schedule="one-cycle", batch_size=32, distortion=0.5)
    whole, epochs = train(config)
    train(config, tmp_path / "checkpoint", stop_after=stop_after)
    resumed, resumed_epochs = train(config, tmp_path / "checkpoint")
    assert equal(whole, resumed)
    assert resumed_epochs == epochs


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_optimizer_goes_on_where_it_was(optimizer: Optimizer, tmp_path: Path) -> None:
    config = TrainConfig(epochs=3, optimizer=optimizer, hidden=(16,))
    whole, _ = train(config)
    train(config, tmp_path / "checkpoint", stop_after=2)
    assert equal(whole, train(config, tmp_path / "checkpoint")[0])


def test_so_does_the_compiled_step(tmp_path: Path) -> None:
    config = TrainConfig(epochs=3, hidden=(16,), dropout=0.2, compile=True)
    whole, _ = train(config)
    train(config, tmp_path / "checkpoint", stop_after=2)
    assert equal(whole, train(config, tmp_path / "checkpoint")[0])


def test_a_training_that_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(epochs=2)
    train(config, tmp_path / "checkpoint")
    monkeypatch.setattr(torch, "randperm", None)  # no epoch can do without
    assert len(train(config, tmp_path / "checkpoint")[1]) == 2


def flip_a_bit(file: bytes) -> bytes:
    return file[:1000] + bytes([file[1000] ^ 1]) + file[1001:]


def hostile(file: bytes) -> bytes:
    content = pickle.dumps(print, protocol=2)  # whole, and nothing that a checkpoint would hold
    return hashlib.sha256(content).digest() + content


@pytest.mark.parametrize("damage", [flip_a_bit, hostile, lambda file: file[:5000], lambda file: b""])
def test_a_damaged_checkpoint_is_ignored_with_a_word(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, checkpoint = TrainConfig(epochs=2), tmp_path / "checkpoint"
    train(config, checkpoint, stop_after=1)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    resumed, _ = train(config, checkpoint)
    assert f"The checkpoint {checkpoint} is damaged" in caplog.text
    assert equal(resumed, train(config)[0])


def test_nothing_is_left_beside_a_checkpoint(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "checkpoint", {"a": torch.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    state = checkpoints.load(tmp_path / "checkpoint")
    assert state
    assert torch.equal(state["a"], torch.zeros(3))


def test_a_checkpoint_is_a_hash_and_a_torch_file(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "checkpoint", {"a": 1})
    file = (tmp_path / "checkpoint").read_bytes()
    assert torch.load(io.BytesIO(file[32:]), weights_only=True) == {"a": 1}
