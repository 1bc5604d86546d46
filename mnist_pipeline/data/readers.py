"""Files → uint8 images: folders of pictures, single pictures, IDX and .npy files.

For prediction they are read a chunk at a time, however many there are.
"""

import gzip
import io
import math
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, cast

import numpy as np

from mnist_pipeline.config import FieldError, check
from mnist_pipeline.data.pictures import preprocessing
from mnist_pipeline.data.pictures.explain import strip_file, write_strip
from mnist_pipeline.data.pictures.preprocessing import FILE_FORMATS, ImageError
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.text import printable

CHUNK = 8192  # images: 6 MB of MNIST's size
HIDDEN = {  # folders of a NAS, a Mac, Windows and Linux, beside all that begin with a dot
    *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),
    *("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
}
OTHER_FORMATS = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".tga", ".ico", ".dng", ".raw")
GZIP, NPY, IDX = b"\x1f\x8b", b"\x93NUMPY", b"\0\0"  # how the files begin
NOT_READ = {b"BZh": "bzip2", b"PK\3\4": "zip", b"\xfd7zX": "xz"}
GZIP_RATIO = 1032  # what gzip packs into a byte at best
MAX_HEADER = 2**14  # bytes that the header of an IDX or .npy file may have
MAX_BYTES = 4 * 2**30  # that an IDX file to train on may hold: five million images of MNIST's size
IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class LabelledImages:
    """What a reader of a dataset returns: raw pixels, their labels, and what was left out."""

    pixels: np.ndarray  # (N, H, W), uint8
    labels: np.ndarray  # (N,), int64
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it
    left_out: Mapping[str, int] = field(default_factory=dict)  # what else → how many
    names: np.ndarray | None = None  # (N,), str: each one's file, in the dataset, or train/00123 in an IDX file
    colours: np.ndarray | None = None  # (N, 2), of pictures: see `Reading.colour`

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> "LabelledImages":
        names, colours = (values if values is None else values[rows] for values in (self.names, self.colours))
        return LabelledImages(self.pixels[rows], self.labels[rows], names=names, colours=colours)

    def __add__(self, more: "LabelledImages") -> "LabelledImages":
        return LabelledImages(
            np.concatenate([self.pixels, more.pixels]),
            np.concatenate([self.labels, more.labels]),
            {**self.unreadable, **more.unreadable},
            Counter(self.left_out) + Counter(more.left_out),
            *(
                None if one is None or other is None else np.concatenate([one, other])
                for one, other in ((self.names, more.names), (self.colours, more.colours))
            ),
        )


@dataclass(frozen=True)
class Chunk:
    """Some of the images to predict, each with its file's name, or with its number from 0."""

    names: Sequence[str] | range
    images: np.ndarray  # (N, H, W), uint8
    warnings: Sequence[str] = ()  # of pictures: why each is unclear, or ""
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it
    left_out: Mapping[str, int] = field(default_factory=dict)  # what else → how many
    colours: Sequence[tuple[float, float]] = ()  # of pictures: see `Reading.colour`


def numbered(part: str, count: int) -> np.ndarray:
    """Return names for the images of an IDX file: train/00000, train/00001 and so on."""
    return np.strings.add(f"{part}/", np.strings.zfill(np.arange(count).astype(np.str_), 5))


def chunks(
    path: Path,
    schema: Schema = Schema(),
    *,
    size: int = CHUNK,
    split: bool = False,
    explain: Path | None = None,
) -> Iterator[Chunk]:
    """Read `path` as images of the size in `schema`, at most `size` of them, or of pictures, at a time.

    Pictures are preprocessed; one that cannot be read is listed, and the others are read. With `split`, each digit in a
    picture is an image; what was made of a picture is drawn into the folder `explain`. Raises `ValueError` if the file
    as a whole is not what it should be.
    """
    if not path.exists():
        raise ValueError(f"there is no {path}: name a folder of images, an IDX or an .npy file")
    if explain:
        check(explain.is_dir() or not explain.exists(), "explain", explain, "a new or an existing folder")
        check(path not in (explain, *explain.parents), "explain", explain, f"a folder outside {path}")
    if path.is_dir():
        files, left_out = find_pictures(path)
        if not files and (path / path.name).is_file():  # as Kaggle's archives hold IDX files
            yield from chunks(path / path.name, schema, size=size, split=split, explain=explain)
        elif not files:
            raise ValueError(no_images(path, left_out))
        for start in range(0, len(files), size):
            chunk = read_pictures(files[start : start + size], path, schema, split=split, explain=explain)
            yield chunk if start else replace(chunk, left_out=left_out + Counter(chunk.left_out))
    elif not path.is_file():
        raise ValueError(f"{path} is neither a file nor a folder")
    elif path.suffix.lower() in FILE_FORMATS:
        yield read_pictures([path], path.parent, schema, split=split, explain=explain)
    else:
        if option := "split" if split else "explain" if explain else "":
            raise FieldError(option, f"is for pictures, which {path.name} does not hold")
        try:
            yield from _chunks_of_array(path, schema, size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged: {error}") from None


def find_pictures(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Return the pictures in `folder` and below, known by their suffix, and what is left out.

    Links to folders are followed, but no folder is read twice. Hidden files and folders are left alone.
    """
    files, left_out, seen, pending = [], Counter[str](), set[Path](), [folder]
    while pending:
        path = pending.pop()
        suffix = path.suffix.lower()
        try:
            if path.is_dir():
                real = path.resolve()
                left_out["links to folders that are read already"] += real in seen
                children = () if real in seen else path.iterdir()
                pending += sorted((each for each in children if not is_hidden(each)), reverse=True)
                seen.add(real)
            elif suffix in FILE_FORMATS and path.is_file():
                files.append(path)
            elif suffix in FILE_FORMATS:  # a pipe would be waited for
                left_out["pipes and broken links"] += 1
            elif suffix in OTHER_FORMATS:
                left_out[f"{suffix} files, which are not read"] += 1
        except OSError as error:
            left_out[f"{printable(str(path))}, which cannot be opened ({error.strerror})"] += 1
    return files, +left_out


def is_hidden(path: Path) -> bool:
    """Return whether a file or folder is left alone, as its name says."""
    return path.name[0] == "." or path.name in HIDDEN


def no_images(folder: Path, left_out: Mapping[str, int]) -> str:
    """Return why there are no images in `folder`."""
    types = f"the file types read are {', '.join(FILE_FORMATS)}"
    return "; ".join([f"there are no images in {folder}: {types}", *(f"{what}: {n:,}" for what, n in left_out.items())])


def read_pictures(
    files: Sequence[Path], folder: Path, schema: Schema, *, split: bool = False, explain: Path | None = None
) -> Chunk:
    """Return the images in `files` under their names relative to `folder`, and what is wrong with the others."""
    names, warnings, colours, unreadable, left_out = [], [], [], dict[str, str](), Counter[str]()
    pixels = [np.empty((0, schema.height, schema.width), np.uint8)]
    for file in files:
        name = shown_name(file.relative_to(folder))
        try:
            reading = preprocessing.read(file, schema, split=split)
        except ImageError as error:
            unreadable[name] = printable(str(error))
            continue
        if explain:
            write_strip(reading, strip_file(explain, name))
        names += [name] * len(reading.pixels)
        warnings += [reading.warning] * len(reading.pixels)
        colours += [reading.colour] * len(reading.pixels)
        pixels.append(reading.pixels)
        left_out["files of which the first page alone is read"] += reading.has_more_pages
    return Chunk(names, np.concatenate(pixels), warnings, unreadable, +left_out, colours)


def shown_name(path: Path) -> str:
    """Return a path as text that no other path has: what cannot be shown is escaped, and so is each backslash."""
    text = str(path).replace("\\", "\\\\")
    return printable(os.fsencode(text).decode(errors="backslashreplace"))


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, packed or not. Raises `ValueError` if it is damaged, or too large."""
    try:
        with _unpacked(path) as (file, limit):
            shape, dtype = _idx_header(path, file)
            expected = math.prod(shape) * dtype.itemsize
            if expected > MAX_BYTES:
                raise ValueError(f"{path} promises {expected:,} bytes, of {MAX_BYTES:,} at most: divide it")
            content = bytearray(file.read(min(expected, limit) + 1))  # one byte more than there should be
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if len(content) != expected:
        raise ValueError(f"{path} is damaged: its header promises {shape}, and {len(content):,} bytes follow")
    return np.frombuffer(content, dtype).reshape(shape)


@contextmanager
def _unpacked(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file, packed or not whatever its name, and yield it with the most bytes that it can hold."""
    size = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(4)
        if way := next((name for magic, name in NOT_READ.items() if beginning.startswith(magic)), None):
            raise ValueError(f"{path} is packed by {way}: unpack it, or pack it by gzip")
        is_packed = beginning.startswith(GZIP)
        file.seek(0)
        with cast(IO[bytes], gzip.open(file)) if is_packed else file as unpacked:
            yield unpacked, size * GZIP_RATIO if is_packed else size


def _chunks_of_array(path: Path, schema: Schema, size: int) -> Iterator[Chunk]:
    with _unpacked(path) as (file, limit):
        count = _read_header(path, file, schema)
        pixels_each = schema.height * schema.width
        if file.tell() + count * pixels_each > limit:  # before anything is predicted
            raise ValueError(f"{path} is cut off: its header promises {count:,} images")
        for start in range(0, count, size):
            numbers = range(start, min(start + size, count))
            pixels = bytearray(file.read(len(numbers) * pixels_each))
            if len(pixels) < len(numbers) * pixels_each:
                raise ValueError(f"{path} is cut off: its header promises {count:,} images")
            yield Chunk(numbers, np.frombuffer(pixels, np.uint8).reshape(-1, schema.height, schema.width))
        if file.read(1):
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
    if shape[0] <= 0:
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
    start = io.BytesIO(file.read(MAX_HEADER))  # NumPy would read as much as the header says that it is long
    try:
        version = np.lib.format.read_magic(start)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(start)
    except Exception:  # Python's parser raises anything on what it cannot parse
        raise ValueError(f"{path} has a damaged header") from None
    file.seek(start.tell())
    if is_fortran:
        raise ValueError(f"{path} is stored column by column: save it with np.save(…, np.ascontiguousarray(images))")
    return shape, dtype
