"""A dataset by its name, or the user's own: IDX files, or a folder of images for each class → splits."""

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from PIL import Image

from mnist_pipeline import data, images
from mnist_pipeline.config import DataSource, Schema
from mnist_pipeline.data import Examples, Extra, Splits
from mnist_pipeline.images import ImageError
from mnist_pipeline.inputs import idx_header, pictures

EXAM_SHARE = 0.15  # of the images, where no exam is given: MNIST's official one is a seventh
LARGEST = 64  # pixels of height or width that a folder's images keep, if they are all of one size
NEARLY = 5 / 255  # root mean square difference of two normalised images that are one: JPEG makes 1 to 4 of 255
KEPT_FOR_EXAM = "kept for the exam, to which their content belongs"
IDX_FILES = {  # images and labels, packed or not
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CLASSES_FILE = "classes.txt"  # beside IDX files: the names of the classes, one a line


@dataclass(frozen=True)
class Labelled:
    """Images (N, H, W), uint8, with their labels (N,), and the files that could not be read."""

    pixels: np.ndarray
    labels: np.ndarray
    unreadable: Mapping[str, str]


def prepare(source: DataSource, folder: Path) -> Splits:
    """Read what `source` tells of from `folder`, and cut it into train, test and exam; `source.extra` joins train.

    A part called test (of IDX files, t10k) is the exam, as MNIST's own is. Where there is none, each image goes to the
    exam or not by its content: it stays where it is as the data grow. Raises `ValueError` where the data are not what
    they should be.
    """
    exam_is_cut = False
    if source.is_named:
        training, exam = data.load(source.dataset, folder)
        splits = data.split(training, exam, schema=Schema(data.class_names(source.dataset)))
    else:
        schema = _schema(folder, source.side)
        parts = [_read(folder, part, schema) for part in _parts(folder)]
        exam_is_cut = len(parts) == 1
        rest, exam_part = _cut_exam(*parts) if exam_is_cut else parts
        splits = data.split(_examples(rest, schema), _examples(exam_part, schema), schema=schema)
        splits = replace(splits, unreadable=dict(rest.unreadable) | dict(exam_part.unreadable))
    return _with_extra(splits, source.extra, exam_is_cut=exam_is_cut) if source.extra else splits


def belongs_to_exam(pixels: np.ndarray) -> np.ndarray:
    """Say of each of `pixels` (N, H, W) whether it is the exam's, by its content alone: (N,), bool."""
    firsts = (hashlib.sha256(image.tobytes()).digest()[:8] for image in pixels)
    return np.array([int.from_bytes(first) < EXAM_SHARE * 2**64 for first in firsts], bool)


def _cut_exam(read: Labelled) -> tuple[Labelled, Labelled]:
    """Give the images to train on and test with, and the exam's."""
    chosen = belongs_to_exam(read.pixels)
    rest, exam = (Labelled(read.pixels[rows], read.labels[rows], read.unreadable) for rows in (~chosen, chosen))
    if not chosen.any():
        raise ValueError(
            f"{len(chosen):,} images are too few: an exam is cut from them, and none of them belongs to it"
        )
    return rest, exam


def _with_extra(splits: Splits, folder: Path, *, exam_is_cut: bool) -> Splits:
    """Let the images of `folder` join the training split, save what is in one of the splits already, or nearly so.

    Where the exam is cut from the dataset, those that would belong to it are left out as well: they may be moved into
    the dataset later, and no version will have learnt from them.
    """
    schema = splits.schema
    read = _read(folder, "train" if _is_idx(folder) else "", schema)
    largest = int(read.labels.max(initial=0))
    if largest >= len(schema.classes):
        raise ValueError(f"the labels in {folder} go to {largest}: there are {len(schema.classes)} classes to train on")
    held_out = {image.tobytes() for part in (splits.test, splits.exam) for image in part.pixels.numpy()}
    known = {
        image.tobytes(): label
        for image, label in zip(splits.train.pixels.numpy(), splits.train.labels.tolist(), strict=True)
    }
    nearly = _nearest(read.pixels, [splits.test.images, splits.exam.images]) <= NEARLY
    exams = belongs_to_exam(read.pixels) & exam_is_cut
    dropped = Counter({"unreadable": len(read.unreadable)} if read.unreadable else {})
    kept = []
    for row, (image, label) in enumerate(zip(read.pixels, read.labels.tolist(), strict=True)):
        key = image.tobytes()
        if key in held_out:
            dropped["of the test split or the exam"] += 1
        elif exams[row]:
            dropped[KEPT_FOR_EXAM] += 1
        elif nearly[row]:
            dropped["nearly of the test split or the exam"] += 1
        elif key in known:
            dropped["there already" if known[key] == label else "there already with another label"] += 1
        else:
            known[key] = label
            kept.append(row)
    pixels, labels = torch.from_numpy(read.pixels[kept]), torch.from_numpy(read.labels[kept])
    if not kept:
        return replace(splits, extra=Extra(Examples(pixels, labels, ""), folder, dropped))
    together = torch.cat([splits.train.pixels, pixels]), torch.cat([splits.train.labels, labels])
    train, extra = (data.examples(*each, classes=len(schema.classes)) for each in (together, (pixels, labels)))
    return replace(splits, train=train, extra=Extra(extra, folder, dropped))


def _nearest(pixels: np.ndarray, others: Sequence[torch.Tensor]) -> np.ndarray:
    """Give, for each of `pixels` (N, H, W), the root mean square difference to the nearest image of `others`: (N,)."""
    nearest = [
        torch.stack([torch.cdist(some.flatten(1), other.flatten(1)).amin(dim=1) for other in others]).amin(dim=0)
        for some in data.normalize(torch.from_numpy(pixels)).split(256)
    ]
    return torch.cat(nearest).numpy() / np.sqrt(pixels[0].size) if len(pixels) else np.empty(0)


def _examples(read: Labelled, schema: Schema) -> Examples:
    return data.examples(torch.from_numpy(read.pixels), torch.from_numpy(read.labels), classes=len(schema.classes))


def _parts(folder: Path) -> list[str]:
    """Name the parts of a dataset in `folder`: train and test, train alone, or the folder as it is ("")."""
    if _is_idx(folder):
        return [part for part, (names, _) in IDX_FILES.items() if part == "train" or _idx_file(folder, names)]
    names = [each.name for each in _folders(folder)]
    if not names:
        raise ValueError(
            f"{folder} is no dataset: it must hold a folder of images for each class, or train/ and test/ with such "
            f"folders, or IDX files with the names of MNIST's ({', '.join(IDX_FILES['train'])}, t10k-… for the exam)"
        )
    if "train" not in names or not _folders(folder / "train"):
        return [""]
    if others := sorted({*names} - {"train", "test"}):
        raise ValueError(f"{folder} holds {', '.join(others)} beside train: move their images to train or to test")
    return [name for name in ("train", "test") if name in names]


def _schema(folder: Path, side: int | None) -> Schema:
    """Find out the classes of the dataset in `folder`, and the size of its images."""
    if _is_idx(folder):
        if side:
            raise ValueError(f"--side is for folders of images: the images in {folder} are taken as they are")
        labels = [_read_idx(folder, IDX_FILES[part][1]) for part in _parts(folder)]
        height, width = _read_idx(folder, IDX_FILES["train"][0]).shape[1:]
        return Schema(_idx_classes(folder, count=max(int(each.max(initial=0)) for each in labels) + 1), height, width)
    root = folder / _parts(folder)[0]
    classes = tuple(each.name for each in _folders(root))
    if len(classes) < 2:
        raise ValueError(
            f"{root} holds one class alone, {classes[0]}: there must be a folder of images for each of two"
        )
    if empty := [name for name in classes if not pictures(root / name)]:
        ends = ", ".join(images.FILE_FORMATS)
        raise ValueError(f"there are no images in {root / empty[0]}: files are read that end in {ends}")
    height, width = (side, side) if side else _common_size(pictures(root))
    return Schema(classes, height, width, "resized")


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    """Give the height and width of the images in `files`, where all have the same and it is small; else MNIST's."""
    sizes = set()
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.add(image.size)
        except (OSError, Image.DecompressionBombError):  # told of when it is read
            continue
        if len(sizes) > 1 or max(image.size) > LARGEST:
            return images.SIDE, images.SIDE
    ((width, height),) = sizes or {(images.SIDE, images.SIDE)}
    return height, width


def _read(folder: Path, part: str, schema: Schema) -> Labelled:
    """Read a part of the dataset in `folder`."""
    if _is_idx(folder):
        pixels, labels = (_read_idx(folder, name) for name in IDX_FILES[part])
        if pixels.shape[1:] != (schema.height, schema.width):
            wanted = f"{schema.height}×{schema.width}"
            raise ValueError(f"the images in {folder} are {pixels.shape[1]}×{pixels.shape[2]}, and not {wanted}")
        if len(pixels) != len(labels):
            raise ValueError(f"{folder} holds {len(pixels):,} images and {len(labels):,} labels for {part}")
        return Labelled(pixels, labels.astype(np.int64), {})
    pixels_of: list[np.ndarray] = []
    labels_of: list[int] = []
    unreadable = {}
    if not _folders(folder / part) and any((folder / part).iterdir()):
        raise ValueError(f"{folder / part} holds no folder of images for a class: nothing in it has a label")
    for each in _folders(folder / part):
        if each.name not in schema.classes:
            known = ", ".join(schema.classes[:20])
            raise ValueError(f"{each} is none of the classes to train on: they are {known}")
        for file in pictures(each):
            try:
                pixels_of.append(images.read(file, schema))
                labels_of.append(schema.classes.index(each.name))
            except ImageError as error:
                unreadable[file.relative_to(folder).as_posix()] = str(error)
    pixels = np.stack(pixels_of) if pixels_of else np.empty((0, schema.height, schema.width), np.uint8)
    return Labelled(pixels, np.array(labels_of, np.int64), unreadable)


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] not in "._")


def _is_idx(folder: Path) -> bool:
    return any(_idx_file(folder, name) for names in IDX_FILES.values() for name in names)


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """Read the IDX file of that `name`, packed or not: uint8, three dimensions of images or one of labels."""
    file = _idx_file(folder, name)
    if file is None:
        raise ValueError(f"there is no {name} in {folder}, nor {name}.gz")
    try:
        with cast(IO[bytes], gzip.open(file) if file.suffix == ".gz" else file.open("rb")) as opened:
            shape, dtype = idx_header(file, opened)
            content = opened.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    dimensions = int(name.split("-idx")[1][0])
    if dtype != np.uint8 or len(shape) != dimensions:
        wanted = "uint8 images (N, height, width)" if dimensions == 3 else "uint8 labels (N,)"
        raise ValueError(f"{file} must hold {wanted}, not {dtype} {shape}")
    if len(content) != np.prod(shape):
        raise ValueError(f"{file} is damaged: its header tells of {shape}, and {len(content):,} bytes follow")
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


def _idx_classes(folder: Path, *, count: int) -> tuple[str, ...]:
    """Name the classes of IDX files, which have numbers alone, by a file beside them where there is one."""
    if not (folder / CLASSES_FILE).is_file():
        return tuple(map(str, range(count)))
    lines = (folder / CLASSES_FILE).read_text().split("\n")
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) < count or len({*names}) < len(names):
        raise ValueError(f"{folder / CLASSES_FILE} must name {count} classes, each once, not {len({*names})}")
    return names
