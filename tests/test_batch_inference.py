"""Each image has its prediction in a file that appears only once it is complete."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import csv, parquet

from mnist_pipeline import batch_inference
from mnist_pipeline.config import FieldError
from mnist_pipeline.data import readers
from mnist_pipeline.data.schema import DIGITS
from tests.data.files import idx, random_pixels, write_pictures

PIXELS = random_pixels(25, 28, 28)


def by_brightness(images: torch.Tensor) -> torch.Tensor:
    """Return the answers of a model that anyone can check: the image's mean decides."""
    return torch.nn.functional.one_hot(images.float().mean(dim=(1, 2)).long() % 10, 10).float()


def predict(out: Path, images: Path, *, classes: tuple[str, ...] = DIGITS, split: bool = False) -> None:
    chunks = readers.chunks(images, size=10, split=split)
    list(batch_inference.write(out, chunks, by_brightness, version=7, classes=classes, split=split))


def test_predictions_go_through_a_link_to_the_file_it_names(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "latest.csv").symlink_to(tmp_path / "elsewhere" / "p.csv")
    predict(tmp_path / "latest.csv", tmp_path / "images.npy")
    assert (tmp_path / "latest.csv").is_symlink()
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["p.csv"]


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_each_image_has_a_row_with_its_probabilities_and_the_models_version(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    predict(tmp_path / name, tmp_path / "images.npy")
    table = parquet.read_table(tmp_path / name) if name == "p.parquet" else csv.read_csv(tmp_path / name)
    assert table.column_names == [
        "image",
        "prediction",
        *(f"p{digit}" for digit in range(10)),
        "model_version",
        "warning",
    ]
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


def test_two_predictions_into_one_file_do_not_mix(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    out = tmp_path / "p.csv"
    first, second = (
        batch_inference.write(out, readers.chunks(tmp_path / "images.npy", size=10), by_brightness, version=version)
        for version in (1, 2)
    )
    next(first)
    for version, prediction in ((2, second), (1, first)):
        list(prediction)
        assert csv.read_csv(out)["model_version"].to_pylist() == [version] * 25
    assert {file.name for file in tmp_path.iterdir()} == {"p.csv", "images.npy"}


@pytest.mark.parametrize(("name", "quote"), [("p.csv", "'"), ("p.parquet", "")])
def test_a_csv_file_holds_no_formula(name: str, quote: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", random_pixels(3, 28, 28))
    for number, renamed in enumerate(("=cmd()", "-1+1", "a")):
        (tmp_path / "in" / f"00{number}.png").rename(tmp_path / "in" / f"{renamed}.png")
    predict(tmp_path / name, tmp_path / "in", classes=("@x", *"bcdefghij"))
    table = parquet.read_table(tmp_path / name) if name == "p.parquet" else csv.read_csv(tmp_path / name)
    assert table["image"].to_pylist() == [f"{quote}-1+1.png", f"{quote}=cmd().png", "a.png"]
    assert {*table["prediction"].to_pylist()} <= {f"{quote}@x", *"bcdefghij"}


def test_an_unclear_picture_has_its_warning_beside_the_prediction(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    bar = Image.new("L", (90, 90), 240)
    bar.save(tmp_path / "in" / "blank.png")
    bar.paste(20, (40, 20, 50, 70))
    bar.save(tmp_path / "in" / "one.png")
    predict(tmp_path / "p.parquet", tmp_path / "in")
    assert parquet.read_table(tmp_path / "p.parquet")["warning"].to_pylist() == ["no ink stands out", None]


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_what_is_unsure_unclear_or_blank_has_no_prediction(name: str, tmp_path: Path) -> None:
    images = PIXELS[:3].copy()
    images[1] = 7  # of a single value, whatever the model makes of it
    half = torch.full((3, 10), 0.05)
    half[:, 4] = torch.tensor([0.95, 0.95, 0.55])
    np.save(tmp_path / "images.npy", images)
    for least, expected in {0.0: [4, 4, 4], 0.9: [4, None, None], 0.5: [4, None, 4]}.items():
        chunks = readers.chunks(tmp_path / "images.npy")
        list(batch_inference.write(tmp_path / name, chunks, lambda _: half, version=7, min_confidence=least))
        table = parquet.read_table(tmp_path / name) if name == "p.parquet" else csv.read_csv(tmp_path / name)
        assert table["prediction"].to_pylist() == expected
        assert len(table["p4"].drop_null()) == 3


def test_a_row_with_an_unsure_digit_has_no_number(tmp_path: Path) -> None:
    table = pa.table({"image": ["a", "a", "b"], "prediction": [1, None, 2]})
    assert batch_inference._numbers(table) == [None, None, "2"]  # noqa: SLF001  # no picture is unsure for certain


def test_the_digits_of_a_row_make_a_number(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, bars in {"a.png": 3, "b.png": 1}.items():
        row = Image.new("L", (180, 90), 240)
        for number in range(bars):
            row.paste(20, (30 + 50 * number, 20, 40 + 10 * number + 50 * number, 70))
        row.save(tmp_path / "in" / name)
    predict(tmp_path / "p.csv", tmp_path / "in", split=True)
    table = csv.read_csv(tmp_path / "p.csv", convert_options=csv.ConvertOptions(column_types={"number": pa.string()}))
    assert table["image"].to_pylist() == ["a.png"] * 3 + ["b.png"]
    digits = [*map(str, table["prediction"].to_pylist())]
    assert table["number"].to_pylist() == ["".join(digits[:3])] * 3 + [digits[3]]


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
