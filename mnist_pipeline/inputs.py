"""What is to be predicted: a folder of pictures, one picture, an IDX or an .npy file → chunks of uint8 images.

One chunk is in memory at a time, however many there are.
"""

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import numpy as np

from mnist_pipeline import images
from mnist_pipeline.images import SIDE, ImageError

CHUNK = 8192  # images: 6 MB
PICTURES = (".png", ".jpg", ".jpeg")
GZIP, NPY, IDX = b"\x1f\x8b", b"\x93NUMPY", b"\0\0"  # how the files begin


@dataclass(frozen=True)
class Chunk:
    """Some of the images, each with its file's name, or with its number from 0."""

    names: Sequence[str] | range
    images: np.ndarray  # (N, 28, 28), uint8
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it


def chunks(source: Path, *, size: int = CHUNK) -> Iterator[Chunk]:
    """Read `source`, at most `size` images at a time.

    Pictures are made like MNIST's; one that cannot be read is named, and the others go on. Raises `ValueError` where
    the file as a whole is not what it should be.
    """
    if not source.exists():
        raise ValueError(f"there is no {source}: name a folder of images, an IDX or an .npy file")
    if source.is_dir():
        yield from _from_pictures(source, _pictures(source), size)
    elif source.suffix.lower() in PICTURES:
        yield from _from_pictures(source.parent, [source], size)
    else:
        try:
            yield from _from_file(source, size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{source} is damaged: {error}") from None


def _pictures(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES and file.name[0] != ".")
    if not files:
        raise ValueError(f"there are no images in {folder}: PNG and JPEG files are read")
    return files


def _from_pictures(folder: Path, files: Sequence[Path], size: int) -> Iterator[Chunk]:
    for start in range(0, len(files), size):
        readable, unreadable = {}, {}
        for file in files[start : start + size]:
            name = os.fsencode(file.relative_to(folder).as_posix()).decode(errors="replace")
            try:
                readable[name] = images.read(file)
            except ImageError as error:
                unreadable[name] = str(error)
        pixels = np.stack([*readable.values()]) if readable else np.empty((0, SIDE, SIDE), np.uint8)
        yield Chunk([*readable], pixels, unreadable)


def _from_file(source: Path, size: int) -> Iterator[Chunk]:
    with source.open("rb") as file:
        beginning = file.read(2)
        file.seek(0)
        with cast(IO[bytes], gzip.open(file)) if beginning == GZIP else file as unpacked:
            count = _read_header(source, unpacked)
            expected = unpacked.tell() + count * SIDE * SIDE
            if beginning != GZIP and source.stat().st_size < expected:  # told before anything is done
                raise ValueError(f"{source} is cut off: {source.stat().st_size:,} of {expected:,} bytes are there")
            for start in range(0, count, size):
                numbers = range(start, min(start + size, count))
                pixels = bytearray(unpacked.read(len(numbers) * SIDE * SIDE))
                if len(pixels) < len(numbers) * SIDE * SIDE:
                    raise ValueError(f"{source} is cut off: its header tells of {count:,} images")
                yield Chunk(numbers, np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE))
            if unpacked.read(1):
                raise ValueError(f"{source} is longer than the {count:,} images that its header tells of")


def _read_header(source: Path, file: IO[bytes]) -> int:
    """Check the header of an IDX or .npy file; give the number of its images, which follow."""
    beginning = file.read(4)
    file.seek(0)
    if beginning == NPY[:4]:
        shape, dtype = _npy_header(source, file)
    elif beginning[:2] == IDX and len(beginning) == 4:
        shape, dtype = _idx_header(source, file, beginning[2], beginning[3])
    else:
        raise ValueError(f"{source} is neither an IDX nor an .npy file, nor a PNG or JPEG image by its name")
    if dtype != np.uint8 or shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{source} must hold uint8 images (N, {SIDE}, {SIDE}), not {dtype} {shape}")
    if not shape[0]:
        raise ValueError(f"there are no images in {source}")
    return shape[0]


def _idx_header(source: Path, file: IO[bytes], kind: int, dimensions: int) -> tuple[tuple[int, ...], np.dtype]:
    kinds = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
    header = file.read(4 + 4 * dimensions)
    if kind not in kinds or len(header) < 4 + 4 * dimensions:
        raise ValueError(f"{source} begins like an IDX file, but its header is damaged")
    return tuple(np.frombuffer(header, ">u4", offset=4).tolist()), np.dtype(kinds[kind])


def _npy_header(source: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"{source} has a damaged header: {error}") from None
    if in_columns:
        raise ValueError(f"{source} is stored column by column: save it with np.save(…, np.ascontiguousarray(images))")
    return shape, dtype
