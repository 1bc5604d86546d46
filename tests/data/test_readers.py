"""Images are read in chunks from whatever holds them, and damaged files are refused."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_pipeline.data import readers
from mnist_pipeline.data.schema import Schema
from tests.data.files import idx, random_pixels

PIXELS = random_pixels(25, 28, 28)
WRITERS: dict[str, Callable[[Path], object]] = {
    "idx3-ubyte": lambda file: file.write_bytes(idx(PIXELS)),
    "idx3-ubyte.gz": lambda file: file.write_bytes(gzip.compress(idx(PIXELS))),
    "images.npy": lambda file: np.save(file, PIXELS),
}


@pytest.mark.parametrize("name", WRITERS)
def test_images_are_read_in_order_and_in_chunks(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    chunks = [*readers.chunks(tmp_path / name, size=10)]
    assert [chunk.names for chunk in chunks] == [range(10), range(10, 20), range(20, 25)]
    assert (np.concatenate([chunk.images for chunk in chunks]) == PIXELS).all()


def test_a_folders_unreadable_pictures_are_listed_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("b.png", "sub/c.JPG", "e.jpeg", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS[0]).resize((90, 90)).save(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "d.png").write_bytes((tmp_path / "b.png").read_bytes()[:99])
    (tmp_path / "notes.txt").write_text("not looked at")
    first, second, third = readers.chunks(tmp_path, size=2)
    assert [*first.names, *second.names, *third.names] == ["b.png", "e.jpeg", "sub/c.JPG"]
    assert [*first.unreadable, *second.unreadable] == ["a.png", "d.png"]
    assert first.images.shape == (1, 28, 28)


def test_a_single_picture_is_read_under_its_name(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "digit.png")
    (chunk,) = readers.chunks(tmp_path / "digit.png")
    assert chunk.names == ["digit.png"]


def test_pictures_become_images_of_the_schemas_size(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "pet.png")
    (chunk,) = readers.chunks(tmp_path, Schema(("cat", "dog"), 12, 10, "resized"))
    assert chunk.images.shape == (1, 12, 10)


@pytest.mark.parametrize(
    ("content", "problem"),
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
def test_a_damaged_or_foreign_file_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        list(readers.chunks(tmp_path / "images"))


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (PIXELS / 255, "not float64"),
        (PIXELS[0], r"not uint8 \(28, 28\)"),
        (np.array([{}]), "not object"),
        (np.asfortranarray(PIXELS), "ascontiguousarray"),
    ],
)
def test_an_array_of_another_type_shape_or_order_is_refused(images: np.ndarray, problem: str, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(ValueError, match=problem):
        list(readers.chunks(tmp_path / "images.npy"))


def test_an_empty_folder_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images in"):
        list(readers.chunks(tmp_path))
    with pytest.raises(ValueError, match=r"there is no .*nowhere"):
        list(readers.chunks(tmp_path / "nowhere"))
