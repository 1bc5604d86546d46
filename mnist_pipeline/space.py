"""Where a search looks."""

import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from mnist_pipeline.config import NO_OTHER_FIELDS, FieldError, OptimizerName, Schedule, TrainConfig, check

Switch = Literal["off", "on"]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Where a search looks: for each field of a config its choices, or its lowest and highest value.

    Raises `FieldError` if a value makes no sense.
    """

    __pydantic_config__ = NO_OTHER_FIELDS

    layers: tuple[int, ...] = (1, 2, 3)
    """Numbers of hidden layers."""
    units: tuple[int, ...] = (64, 128, 256, 512)
    """Units of a hidden layer."""
    lr: tuple[float, float] = (0.0003, 0.03)
    """Lowest and highest learning rate, sampled on a log scale."""
    schedule: tuple[Schedule, ...] = ("constant", "one-cycle")
    """Learning rate schedules."""
    batch_size: tuple[int, ...] = (64, 128, 256, 512)
    """Images per step."""
    dropout: tuple[float, float] = (0.0, 0.4)
    """Lowest and highest dropout."""
    batch_norm: tuple[Switch, ...] = ("off", "on")
    """Whether to use batch normalisation."""
    optimizer: tuple[OptimizerName, ...] = ("nesterov", "adam", "adamw")
    """Optimizers."""
    augmentation: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest strength of the augmentation."""

    def __post_init__(self) -> None:
        for name, values in vars(self).items():
            check(len(values) > 0, name, "nothing", "one choice or more")
        for name in ("lr", "dropout", "augmentation"):
            low, high = getattr(self, name)
            check(low <= high, name, f"{low} {high}", "the lowest value, then the highest")
            for value in (low, high):
                TrainConfig(**{name: value})
        check(min(self.layers) >= 0, "layers", min(self.layers), "at least 0")
        check(min(self.units) >= 1, "units", min(self.units), "at least 1")
        check(min(self.batch_size) >= 2, "batch_size", min(self.batch_size), "at least 2")


def space_from(file: Path) -> Space:
    """Read a space from a TOML file; what it leaves out keeps its default. Raises `FieldError` if it is not one."""
    from pydantic import TypeAdapter, ValidationError  # a tenth of a second, which other commands are spared

    try:
        text = json.dumps(tomllib.loads(file.read_text(encoding="utf-8")))
        space: Space = TypeAdapter(Space).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{first['loc'][0]}: {first['msg']}" if first["loc"] else first["msg"].removeprefix("Value error, ")
    except (ValueError, TypeError) as error:
        problem = str(error)
    except OSError as error:
        raise FieldError("space", f"must be a TOML file: {file}: {error.strerror}") from None
    else:
        return space
    known = ", ".join(field.name for field in fields(Space))
    raise FieldError("space", f"{file}: {problem}; it may name {known}, each a list")
