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
from mnist_pipeline.config import Schema
from mnist_pipeline.images import FILE_FORMATS, ImageError

CHUNK = 8192  # images: 6 MB of MNIST's size
GZIP, NPY, IDX = b"\x1f\x8b", b"\x93NUMPY", b"\0\0"  # how the files begin


@dataclass(frozen=True)
class Chunk:
    """Some of the images, each with its file's name, or with its number from 0."""

    names: Sequence[str] | range
    images: np.ndarray  # (N, H, W), uint8
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it


def chunks(source: Path, schema: Schema = Schema(), *, size: int = CHUNK) -> Iterator[Chunk]:
    """Read `source` as the images that `schema` tells of, at most `size` of them at a time.

    Pictures are made like those; one that cannot be read is named, and the others go on. Raises `ValueError` where the
    file as a whole is not what it should be.
    """
    if not source.exists():
        raise ValueError(f"there is no {source}: name a folder of images, an IDX or an .npy file")
    if source.is_dir():
        files = pictures(source)
        if not files:
            raise ValueError(f"there are no images in {source}: files are read that end in {', '.join(FILE_FORMATS)}")
        yield from _from_pictures(source, files, schema, size)
    elif source.suffix.lower() in FILE_FORMATS:
        yield from _from_pictures(source.parent, [source], schema, size)
    else:
        try:
            yield from _from_file(source, schema, size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{source} is damaged: {error}") from None


def pictures(folder: Path) -> list[Path]:
    """Find the pictures in `folder` and below, by the ends of their names; hidden ones are left alone."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in FILE_FORMATS and file.name[0] != ".")


def _from_pictures(folder: Path, files: Sequence[Path], schema: Schema, size: int) -> Iterator[Chunk]:
    for start in range(0, len(files), size):
        readable, unreadable = {}, {}
        for file in files[start : start + size]:
            name = os.fsencode(file.relative_to(folder).as_posix()).decode(errors="replace")
            try:
                readable[name] = images.read(file, schema)
            except ImageError as error:
                unreadable[name] = str(error)
        pixels = np.stack([*readable.values()]) if readable else np.empty((0, schema.height, schema.width), np.uint8)
        yield Chunk([*readable], pixels, unreadable)


def _from_file(source: Path, schema: Schema, size: int) -> Iterator[Chunk]:
    with source.open("rb") as file:
        beginning = file.read(2)
        file.seek(0)
        with cast(IO[bytes], gzip.open(file)) if beginning == GZIP else file as unpacked:
            count = _read_header(source, unpacked, schema)
            pixels_each = schema.height * schema.width
            expected = unpacked.tell() + count * pixels_each
            if beginning != GZIP and source.stat().st_size < expected:  # told before anything is done
                raise ValueError(f"{source} is cut off: {source.stat().st_size:,} of {expected:,} bytes are there")
            for start in range(0, count, size):
                numbers = range(start, min(start + size, count))
                pixels = bytearray(unpacked.read(len(numbers) * pixels_each))
                if len(pixels) < len(numbers) * pixels_each:
                    raise ValueError(f"{source} is cut off: its header tells of {count:,} images")
                yield Chunk(numbers, np.frombuffer(pixels, np.uint8).reshape(-1, schema.height, schema.width))
            if unpacked.read(1):
                raise ValueError(f"{source} is longer than the {count:,} images that its header tells of")


def _read_header(source: Path, file: IO[bytes], schema: Schema) -> int:
    """Check the header of an IDX or .npy file; give the number of its images, which follow."""
    beginning = file.read(4)
    file.seek(0)
    if beginning == NPY[:4]:
        shape, dtype = _npy_header(source, file)
    elif beginning[:2] == IDX and len(beginning) == 4:
        shape, dtype = idx_header(source, file)
    else:
        raise ValueError(f"{source} is neither an IDX nor an .npy file, nor a PNG or JPEG image by its name")
    if dtype != np.uint8 or shape[1:] != (schema.height, schema.width):
        wanted = f"(N, {schema.height}, {schema.width})"
        raise ValueError(f"{source} must hold uint8 images {wanted}, not {dtype} {shape}")
    if not shape[0]:
        raise ValueError(f"there are no images in {source}")
    return shape[0]


def idx_header(source: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of an IDX file, MNIST's own kind: the shape and the kind of the numbers that follow."""
    kinds = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
    zeros, kind, dimensions = (magic := file.read(4).ljust(4, b"\xff"))[:2], magic[2], magic[3]
    sizes = file.read(4 * dimensions)
    if zeros != IDX or kind not in kinds or len(sizes) < 4 * dimensions:
        raise ValueError(f"{source} is no IDX file, or its header is damaged")
    return tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(kinds[kind])


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
