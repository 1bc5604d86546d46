"""Each image has its prediction in a file that appears only once it is complete."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import csv, parquet

from mnist_pipeline import batch_inference
from mnist_pipeline.config import FieldError
from mnist_pipeline.data import readers
from tests.data.files import idx, random_pixels

PIXELS = random_pixels(25, 28, 28)


def by_brightness(images: torch.Tensor) -> torch.Tensor:
    """Return the answers of a model that anyone can check: the image's mean decides."""
    return torch.nn.functional.one_hot(images.float().mean(dim=(1, 2)).long() % 10, 10).float()


def predict(out: Path, images: Path, **options: tuple[str, ...]) -> None:
    list(batch_inference.write(out, readers.chunks(images, size=10), by_brightness, version=7, **options))


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_each_image_has_a_row_with_its_probabilities_and_the_models_version(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    predict(tmp_path / name, tmp_path / "images.npy")
    table = parquet.read_table(tmp_path / name) if name == "p.parquet" else csv.read_csv(tmp_path / name)
    assert table.column_names == ["image", "prediction", *(f"p{digit}" for digit in range(10)), "model_version"]
    assert table["image"].to_pylist() == [*range(25)]
    assert table["prediction"].to_pylist() == by_brightness(torch.from_numpy(PIXELS)).argmax(dim=1).tolist()
    assert {sum(row[f"p{digit}"] for digit in range(10)) for row in table.to_pylist()} == {1}
    assert set(table["model_version"].to_pylist()) == {7}


def test_named_classes_are_predicted_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    predict(tmp_path / "p.csv", tmp_path / "images.npy", classes=tuple("abcdefghij"))
    table = csv.read_csv(tmp_path / "p.csv")
    assert table.column_names[1:3] == ["prediction", "p_a"]
    expected = by_brightness(torch.from_numpy(PIXELS)).argmax(dim=1)
    assert table["prediction"].to_pylist() == ["abcdefghij"[label] for label in expected]


def test_the_previous_file_stays_if_the_images_turn_out_damaged_halfway(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    out.write_text("before")
    (tmp_path / "images").write_bytes(gzip.compress(idx(PIXELS, count=26)))
    with pytest.raises(ValueError, match="cut off"):
        predict(out, tmp_path / "images")
    assert out.read_text() == "before"
    assert {file.name for file in tmp_path.iterdir()} == {"p.csv", "images"}


def test_nothing_is_written_if_no_picture_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of 1 images can be read, p.csv is not written: a.png: it is not a"):
        predict(tmp_path / "p.csv", tmp_path / "in")
    assert not (tmp_path / "p.csv").exists()


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"out must be a name that ends in .parquet or .csv, not .*p.txt"):
        predict(tmp_path / "p.txt", tmp_path / "nowhere")
