"""A data source names its model, and nothing that does not exist."""

from pathlib import Path

import pytest

from mnist_pipeline.config import FieldError
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.source import DataSource, dataset_of, model_name


def test_the_model_is_named_after_the_dataset_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "Our Pets").mkdir()
    folder = str(tmp_path / "Our Pets")
    assert DataSource().model_name == "mnist-mlp"
    assert DataSource(dataset=folder).model_name == "our-pets-mlp"
    assert DataSource(dataset=folder, name="pets").model_name == "pets-mlp"


def test_a_model_is_found_by_the_datasets_name_or_by_its_folder(tmp_path: Path) -> None:
    assert model_name("mnist") == "mnist-mlp"
    assert model_name("our-pets") == model_name(str(tmp_path / "Our Pets")) == "our-pets-mlp"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "our-pets"])
def test_a_models_dataset_is_the_one_that_it_is_named_after(name: str) -> None:
    assert dataset_of(model_name(name)) == name


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)
    source = DataSource(dataset="pets", extra=Path("pets"))
    assert (source.folder, source.extra) == (tmp_path / "pets", tmp_path / "pets")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"dataset": "nowhere"}, "dataset must be mnist, fashion-mnist, kmnist or an existing folder, not nowhere"),
        ({"dataset": ""}, "dataset must be mnist, fashion-mnist, kmnist or an existing folder, not nothing"),
        ({"dataset": "./mnist"}, "name must be given for a folder called mnist"),
        ({"dataset": ".", "name": "a/b"}, "name must be of letters"),
        ({"dataset": ".", "image_size": 3}, "image_size must be between 4 and 128, not 3"),
        ({"image_size": 16}, "image_size must be left out for mnist"),
        ({"name": "pets"}, "name must be left out for mnist: it is that of a folder"),
        ({"dataset": ".", "name": "n" * 250}, "name must be at most 100 letters long"),
        ({"dataset": ".", "name": "pets-monitoring"}, "name must be one that does not end in -monitoring"),
        ({"extra": Path("nowhere")}, "extra must be an existing folder, not nowhere"),
        ({"mirror": "example.org/mnist"}, "mirror must be a URL that begins with http"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(
    fields: dict[str, object], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FieldError, match=problem):
        DataSource(**fields)  # type: ignore[arg-type]


def test_a_schema_is_read_back_from_its_json_also_that_of_version_0_1() -> None:
    schema = Schema(("cat", "dog"), 12, 10, "resized")
    fields = schema.to_json()
    assert Schema.from_json(fields) == schema
    fields["pictures"] = fields.pop("preprocessing")
    assert Schema.from_json(fields) == schema
