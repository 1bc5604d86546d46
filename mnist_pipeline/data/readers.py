"""Files → uint8 images: folders of pictures, single pictures, IDX and .npy files.

For prediction they are read a chunk at a time, however many there are.
"""

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import numpy as np

from mnist_pipeline.data import preprocessing
from mnist_pipeline.data.preprocessing import FILE_FORMATS, ImageError
from mnist_pipeline.data.schema import Schema

CHUNK = 8192  # images: 6 MB of MNIST's size
GZIP, NPY, IDX = b"\x1f\x8b", b"\x93NUMPY", b"\0\0"  # how the files begin
IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class LabelledImages:
    """What a reader of a dataset returns: raw pixels, their labels, and the files that it could not read."""

    pixels: np.ndarray  # (N, H, W), uint8
    labels: np.ndarray  # (N,), int64
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> "LabelledImages":
        return LabelledImages(self.pixels[rows], self.labels[rows])

    def __add__(self, more: "LabelledImages") -> "LabelledImages":
        return LabelledImages(
            np.concatenate([self.pixels, more.pixels]),
            np.concatenate([self.labels, more.labels]),
            {**self.unreadable, **more.unreadable},
        )


@dataclass(frozen=True)
class Chunk:
    """Some of the images to predict, each with its file's name, or with its number from 0."""

    names: Sequence[str] | range
    images: np.ndarray  # (N, H, W), uint8
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it


def chunks(path: Path, schema: Schema = Schema(), *, size: int = CHUNK) -> Iterator[Chunk]:
    """Read `path` as images of the size in `schema`, at most `size` of them at a time.

    Pictures are preprocessed; one that cannot be read is listed, and the others are read. Raises `ValueError` if the
    file as a whole is not what it should be.
    """
    if not path.exists():
        raise ValueError(f"there is no {path}: name a folder of images, an IDX or an .npy file")
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise ValueError(f"there are no images in {path}: the file types read are {', '.join(FILE_FORMATS)}")
        yield from _chunks_of_pictures(path, files, schema, size)
    elif path.suffix.lower() in FILE_FORMATS:
        yield from _chunks_of_pictures(path.parent, [path], schema, size)
    else:
        try:
            yield from _chunks_of_array(path, schema, size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged: {error}") from None


def image_files(folder: Path) -> list[Path]:
    """Return the pictures in `folder` and below, known by their suffix; hidden ones are left alone."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in FILE_FORMATS and file.name[0] != ".")


def read_pictures(files: Sequence[Path], folder: Path, schema: Schema) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the image in each of `files` by its name relative to `folder`, and what is wrong with the others."""
    readable, unreadable = {}, {}
    for file in files:
        name = os.fsencode(file.relative_to(folder).as_posix()).decode(errors="replace")
        try:
            readable[name] = preprocessing.read(file, schema)
        except ImageError as error:
            unreadable[name] = str(error)
    return readable, unreadable


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, packed or not. Raises `ValueError` if it is damaged."""
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            shape, dtype = _idx_header(path, file)
            content = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if len(content) != np.prod(shape) * dtype.itemsize:
        raise ValueError(f"{path} is damaged: its header promises {shape}, and {len(content):,} bytes follow")
    return np.frombuffer(bytearray(content), dtype).reshape(shape)


def _chunks_of_pictures(folder: Path, files: Sequence[Path], schema: Schema, size: int) -> Iterator[Chunk]:
    for start in range(0, len(files), size):
        readable, unreadable = read_pictures(files[start : start + size], folder, schema)
        pixels = np.stack([*readable.values()]) if readable else np.empty((0, schema.height, schema.width), np.uint8)
        yield Chunk([*readable], pixels, unreadable)


def _chunks_of_array(path: Path, schema: Schema, size: int) -> Iterator[Chunk]:
    with path.open("rb") as file:
        is_packed = file.read(2) == GZIP
        file.seek(0)
        with cast(IO[bytes], gzip.open(file)) if is_packed else file as unpacked:
            count = _read_header(path, unpacked, schema)
            pixels_each = schema.height * schema.width
            expected = unpacked.tell() + count * pixels_each
            if not is_packed and path.stat().st_size < expected:  # before anything is predicted
                raise ValueError(f"{path} is cut off: {path.stat().st_size:,} of {expected:,} bytes are there")
            for start in range(0, count, size):
                numbers = range(start, min(start + size, count))
                pixels = bytearray(unpacked.read(len(numbers) * pixels_each))
                if len(pixels) < len(numbers) * pixels_each:
                    raise ValueError(f"{path} is cut off: its header promises {count:,} images")
                yield Chunk(numbers, np.frombuffer(pixels, np.uint8).reshape(-1, schema.height, schema.width))
            if unpacked.read(1):
                raise ValueError(f"{path} is longer than the {count:,} images that its header promises")


def _read_header(path: Path, file: IO[bytes], schema: Schema) -> int:
    """Check the header of an IDX or .npy file; return the number of images that follow."""
    magic = file.read(4)
    file.seek(0)
    if magic == NPY[:4]:
        shape, dtype = _npy_header(path, file)
    elif magic[:2] == IDX and len(magic) == 4:
        shape, dtype = _idx_header(path, file)
    else:
        raise ValueError(f"{path} is neither an IDX nor an .npy file, and its name is not that of a picture")
    if dtype != np.uint8 or shape[1:] != (schema.height, schema.width):
        wanted = f"(N, {schema.height}, {schema.width})"
        raise ValueError(f"{path} must hold uint8 images {wanted}, not {dtype} {shape}")
    if not shape[0]:
        raise ValueError(f"there are no images in {path}")
    return shape[0]


def _idx_header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of an IDX file, the format of MNIST's own: the shape and the type of the numbers that follow."""
    magic = file.read(4).ljust(4, b"\xff")
    zeros, dtype, dimensions = magic[:2], magic[2], magic[3]
    sizes = file.read(4 * dimensions)
    if zeros != IDX or dtype not in IDX_DTYPES or len(sizes) < 4 * dimensions:
        raise ValueError(f"{path} is not an IDX file, or its header is damaged")
    return tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(IDX_DTYPES[dtype])


def _npy_header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"{path} has a damaged header: {error}") from None
    if is_fortran:
        raise ValueError(f"{path} is stored column by column: save it with np.save(…, np.ascontiguousarray(images))")
    return shape, dtype
