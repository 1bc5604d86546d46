"""A config holds the reference recipe, and nothing that makes no sense."""

import dataclasses
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from mnist_pipeline.config import (
    BEST,
    FAST,
    RECIPES,
    FieldError,
    Gate,
    Search,
    TrainConfig,
    check_predictions_file,
    with_recipe,
)


def test_the_default_is_the_reference_recipe() -> None:
    config = TrainConfig()
    assert (config.epochs, config.lr, config.batch_size) == (10, 0.001, 64)
    assert (config.hidden, config.optimizer, config.seed) == ((100, 100), "adam", 0)


def test_a_config_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("batch_size", 0),
        ("hidden", (100, 0)),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("label_smoothing", 1.0),
        ("augmentation", 3.1),
        ("validation", -0.1),
        ("validation", 0.6),
        ("patience", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("threads", -1),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_its_fields_name(field: str, value: Any) -> None:
    with pytest.raises(FieldError, match=rf"^{field} must be .*, not ") as error:
        TrainConfig(**{field: value})
    assert error.value.field == field


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Gate(floor=1.1), "floor must be between 0 and 1, not 1.1"),
        (lambda: Gate(significance=0), "significance must be above 0 and below 1, not 0"),
        (lambda: Gate(margin=-0.1), "margin must be between 0 and 1, not -0.1"),
        (lambda: Search(trials=0), "trials must be at least 1, not 0"),
        (lambda: Search(workers=-1), "workers must be between 0 and 256, not -1"),
    ],
)
def test_a_gate_or_a_search_that_makes_no_sense_is_refused(make: Callable[[], object], problem: str) -> None:
    with pytest.raises(FieldError) as error:
        make()
    assert str(error.value) == problem


def test_batch_norm_needs_two_images_per_batch() -> None:
    with pytest.raises(FieldError, match="batch_size must be at least 2 with batch norm, not 1"):
        TrainConfig(batch_norm=True, batch_size=1)


def test_patience_needs_a_validation_part() -> None:
    with pytest.raises(FieldError, match="patience needs a validation part to watch: set validation"):
        TrainConfig(patience=5)
    assert TrainConfig(patience=5, validation=0.1).patience == 5


def test_a_field_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(FieldError("batch_size", "must be at least 1, not 0")))
    assert (error.field, str(error)) == ("batch_size", "batch_size must be at least 1, not 0")


def test_every_recipe_carries_its_name() -> None:
    assert {name: config.recipe for name, config in RECIPES.items()} == {name: name for name in RECIPES}


def test_fields_that_are_left_out_come_from_the_named_recipe() -> None:
    assert TrainConfig(**with_recipe({})) == TrainConfig()
    assert TrainConfig(**with_recipe({"recipe": "best"})) == BEST
    assert TrainConfig(**with_recipe({"recipe": "fast", "epochs": 5})) == dataclasses.replace(FAST, epochs=5)


def test_a_config_is_read_back_from_its_json() -> None:
    fields = dataclasses.asdict(BEST) | {"hidden": [1200, 1200, 600]}
    assert TypeAdapter(TrainConfig).validate_python(fields) == BEST


def test_a_configs_name_begins_with_what_differs_from_its_recipe() -> None:
    assert str(TrainConfig()) == "reference"
    assert str(TrainConfig(epochs=1, hidden=(), seed=7)) == "epochs 1, hidden none, seed 7, reference"
    assert str(dataclasses.replace(FAST, hidden=(256, 128), optimizer="sgd")) == "hidden 256-128, optimizer sgd, fast"


@pytest.mark.parametrize("name", ["p.parquet", "p.CSV"])
def test_predictions_may_go_to_a_parquet_or_csv_file(name: str, tmp_path: Path) -> None:
    check_predictions_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("p.txt", "a name that ends in .parquet or .csv"),
        ("nowhere/p.csv", "in an existing folder"),
        ("folder.csv", "a file"),
        ("pipe.csv", "a file"),
    ],
)
def test_predictions_may_not_go_anywhere_else(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(FieldError, match=f"out must be {problem}, not "):
        check_predictions_file(tmp_path / name)
