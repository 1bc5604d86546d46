"""A config holds the reference recipe, and nothing that makes no sense."""

import dataclasses

import pytest

from mnist_pipeline.config import RECIPES, DataSource, TrainConfig


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
        ("seed", -1),
        ("threads", -1),
    ],
)
def test_a_value_that_makes_no_sense_is_named_with_its_option(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"--{field.replace('_', '-')} must be .*, not "):
        TrainConfig(**{field: value})  # type: ignore[arg-type]


def test_every_recipe_carries_its_name() -> None:
    assert {name: recipe().recipe for name, recipe in RECIPES.items()} == {name: name for name in RECIPES}


def test_batch_norm_needs_two_images_a_batch() -> None:
    with pytest.raises(ValueError, match="--batch-size must be at least 2 with batch norm, not 1"):
        TrainConfig(batch_norm=True, batch_size=1)


def test_a_mirror_is_a_url() -> None:
    with pytest.raises(ValueError, match="--mirror must be a URL"):
        DataSource(mirror="example.org/mnist")
