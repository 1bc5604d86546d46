"""Datasets on disk, as small as the tests need them."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_pipeline.data.folders import IDX_FILES
from mnist_pipeline.data.pictures import preprocessing


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_pictures(folder: Path, images: np.ndarray, *, suffix: str = ".png") -> None:
    """Add `images` to a class folder, under numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        Image.fromarray(image).save(folder / f"{len(list(folder.iterdir())):03}{suffix}")


def idx(array: np.ndarray, *, count: int | None = None) -> bytes:
    """Return a uint8 `array` as the content of an IDX file, whose header promises `count` items."""
    shape = (count or len(array), *array.shape[1:])
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(shape, ">u4").tobytes() + array.tobytes()


def exif(orientation: int, *damaged: tuple[int, int, int, bytes]) -> bytes:
    """Return a block of Exif with an orientation and other entries: tag, type, count and value."""
    entries = [(0x112, 3, 1, bytes([orientation, 0])), *damaged]
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


def write_idx(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write a `part` (train or test) of a dataset as IDX files."""
    folder.mkdir(exist_ok=True)
    for name, array in zip(IDX_FILES[part], (images, labels), strict=True):
        (folder / name).write_bytes(idx(array))


def encoded(image: Image.Image, file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def read_one(file: bytes | Path) -> np.ndarray:
    """Return the one image that is read from `file`."""
    reading = preprocessing.read(file)
    assert len(reading.pixels) == 1
    image: np.ndarray = reading.pixels[0]
    return image
