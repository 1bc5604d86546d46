"""What is trained, and on which data: two small frozen dataclasses with visible defaults."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]  # the project's root: the data, mlflow.db and mlartifacts/ stand here

Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
DatasetName = Literal["mnist", "fashion-mnist", "kmnist"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All that decides which weights come out: the same config and data give the same model.

    Raises `ValueError` where a value makes no sense.
    """

    epochs: int = 10
    """Passes over the training images."""
    lr: float = 0.001
    """Learning rate."""
    batch_size: int = 64
    """Images a step; the last short batch of an epoch is dropped."""
    hidden: tuple[int, ...] = (100, 100)
    """Units of each hidden layer; none makes the single-layer perceptron."""
    optimizer: Optimizer = "adam"
    """How a gradient becomes a step."""
    dropout: float = 0.0
    """Share of hidden units silenced at each training step."""
    batch_norm: bool = False
    """Normalise each hidden layer's inputs over the batch."""
    seed: int = 0
    """Of the initial weights, the shuffling and the dropout."""

    def __post_init__(self) -> None:
        _check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _check(math.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a positive number")
        _check(self.batch_size >= 1, "batch-size", self.batch_size, "at least 1")
        _check(all(units >= 1 for units in self.hidden), "hidden", _words(self.hidden), "at least 1 unit a layer")
        _check(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        _check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")
        _check(not self.batch_norm or self.batch_size >= 2, "batch-size", self.batch_size, "at least 2 with batch norm")


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Which images to train on, where they are kept and where they come from."""

    dataset: DatasetName = "mnist"
    """MNIST ships with the package; the others are downloaded."""
    data_dir: Path = ROOT / "MNIST_data"
    """Where torchvision reads the files; they are put there if they are missing or damaged."""
    mirror: str | None = None
    """URL of a folder with the four files, tried before the others."""

    def __post_init__(self) -> None:
        _check(
            self.mirror is None or self.mirror.startswith(("http://", "https://", "file://")),
            "mirror",
            self.mirror,
            "a URL that begins with http://, https:// or file://",
        )


def _check(holds: bool, field: str, value: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"--{field} must be {wanted}, not {value}")


def _words(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))
