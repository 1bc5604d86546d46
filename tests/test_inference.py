"""Images in chunks, from whatever holds them, and predictions that appear only once they are whole."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import csv, parquet

from mnist_pipeline import inference, inputs

PIXELS = np.random.default_rng(0).integers(0, 256, (25, 28, 28), np.uint8)


def idx(images: np.ndarray, *, count: int | None = None) -> bytes:
    header = b"\0\0\x08" + bytes([images.ndim])
    shape = (count or len(images), *images.shape[1:])
    return header + np.array(shape, ">u4").tobytes() + images.tobytes()


WRITERS: dict[str, Callable[[Path], object]] = {
    "idx3-ubyte": lambda file: file.write_bytes(idx(PIXELS)),
    "idx3-ubyte.gz": lambda file: file.write_bytes(gzip.compress(idx(PIXELS))),
    "images.npy": lambda file: np.save(file, PIXELS),
}


@pytest.mark.parametrize("name", WRITERS)
def test_images_come_in_order_and_in_chunks(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    chunks = [*inputs.chunks(tmp_path / name, size=10)]
    assert [chunk.names for chunk in chunks] == [range(10), range(10, 20), range(20, 25)]
    assert (np.concatenate([chunk.images for chunk in chunks]) == PIXELS).all()


def test_a_folder_names_the_pictures_that_cannot_be_read_and_goes_on(tmp_path: Path) -> None:
    for name in ("b.png", "sub/c.JPG", "e.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS[0]).resize((90, 90)).save(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "d.png").write_bytes((tmp_path / "b.png").read_bytes()[:99])
    (tmp_path / "notes.txt").write_text("not looked at")
    first, second, third = inputs.chunks(tmp_path, size=2)
    assert [*first.names, *second.names, *third.names] == ["b.png", "e.jpeg", "sub/c.JPG"]
    assert [*first.unreadable, *second.unreadable] == ["a.png", "d.png"]
    assert first.images.shape == (1, 28, 28)


def test_one_picture_will_do(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "digit.png")
    (chunk,) = inputs.chunks(tmp_path / "digit.png")
    assert chunk.names == ["digit.png"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "neither an IDX nor an .npy"),
        (b"words", "neither an IDX nor an .npy"),
        (b"\0\0\x08\x03\0\0", "header is damaged"),
        (idx(PIXELS)[:-1], "cut off"),
        (idx(PIXELS) + b"\0", "longer than the 25 images"),
        (idx(PIXELS[:0]), "no images"),
        (idx(PIXELS[:, 0, 0]), r"not uint8 \(25,\)"),
        (idx(PIXELS[:, :14]), r"not uint8 \(25, 14, 28\)"),
        (gzip.compress(idx(PIXELS, count=26)), "cut off"),
        (gzip.compress(idx(PIXELS))[:-20], "damaged"),
        (gzip.compress(idx(PIXELS))[:300] + b"damage" + gzip.compress(idx(PIXELS))[306:], "damaged"),
        (b"\x93NUMPY\x07\x00\x04\x00{}\n ", "damaged header"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_told(content: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        list(inputs.chunks(tmp_path / "images"))


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (PIXELS / 255, "not float64"),
        (PIXELS[0], r"not uint8 \(28, 28\)"),
        (np.array([{}]), "not object"),
        (np.asfortranarray(PIXELS), "ascontiguousarray"),
    ],
)
def test_so_is_an_array(images: np.ndarray, complaint: str, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(ValueError, match=complaint):
        list(inputs.chunks(tmp_path / "images.npy"))


def test_an_empty_folder_and_none_at_all_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images in"):
        list(inputs.chunks(tmp_path))
    with pytest.raises(ValueError, match="there is no"):
        list(inputs.chunks(tmp_path / "nowhere"))


def brightness(images: torch.Tensor) -> torch.Tensor:
    """A model for whose answers one can tell: the image's mean decides."""
    return torch.nn.functional.one_hot(images.float().mean(dim=(1, 2)).long() % 10, 10).float()


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_each_image_has_a_row_with_its_probabilities_and_the_version(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    chunks = inputs.chunks(tmp_path / "images.npy", size=10)
    list(inference.write(tmp_path / name, chunks, brightness, version=7))
    table = parquet.read_table(tmp_path / name) if name == "p.parquet" else csv.read_csv(tmp_path / name)
    assert table.column_names == ["image", "prediction", *(f"p{digit}" for digit in range(10)), "model_version"]
    assert table["image"].to_pylist() == [*range(25)]
    assert table["prediction"].to_pylist() == brightness(torch.from_numpy(PIXELS)).argmax(dim=1).tolist()
    assert {sum(row[f"p{digit}"] for digit in range(10)) for row in table.to_pylist()} == {1}
    assert set(table["model_version"].to_pylist()) == {7}


def test_what_stood_there_stays_until_the_predictions_are_whole(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    out.write_text("before")
    (tmp_path / "images").write_bytes(gzip.compress(idx(PIXELS, count=26)))
    with pytest.raises(ValueError, match="cut off"):
        list(inference.write(out, inputs.chunks(tmp_path / "images", size=10), brightness, version=1))
    assert out.read_text() == "before"
    assert {file.name for file in tmp_path.iterdir()} == {"p.csv", "images"}


def test_nothing_is_written_where_no_picture_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of 1 images can be read, p.csv is not written: a.png: it is neither"):
        list(inference.write(tmp_path / "p.csv", inputs.chunks(tmp_path / "in"), brightness, version=1))
    assert not (tmp_path / "p.csv").exists()
