"""A user's own data: a folder of images for each class, or IDX files under MNIST's names."""

import contextlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_pipeline.config import FieldError
from mnist_pipeline.data.pictures import preprocessing
from mnist_pipeline.data.readers import (
    LabelledImages,
    find_pictures,
    is_hidden,
    no_images,
    numbered,
    read_idx,
    read_pictures,
)
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.text import as_seen, listed, printable

MAX_OWN_SIZE = 64  # pixels of height or width up to which images that are all of one size keep it
# In the names of files and folders
PART = (
    r"(?<![a-z])(train|test|t10k|holdout|exam|eval|val|dev)(?:ing|set|id|idation|uation|elopment)?"
    r"(?:s?daten|data|images|imgs)?(?![a-z])"
)
PART_OF = {
    "t10k": "test",
    "holdout": "test",
    "exam": "test",
    "eval": "test",
    "dev": "val",
}
IDX_FILES = {  # images and labels, packed or not
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CLASSES_FILE = "classes.txt"  # beside IDX files: the names of the classes, one per line


def read(folder: Path, *, image_size: int | None = None) -> tuple[Schema, list[LabelledImages]]:
    """Read the dataset in `folder`: its schema, and train and test, or train alone.

    Raises `ValueError` if it is not a dataset.
    """
    if files := _idx_files(folder):
        if image_size:
            raise FieldError("image_size", f"is for folders of images: those in {folder} are used as they are")
        if others := {*files} - {*IDX_FILES}:
            raise ValueError(f"{folder} holds IDX files of {others.pop()}: move their images to train or to test")
        arrays = [_read_idx_part(folder, files, part) for part in sorted({*files, "train"}, reverse=True)]
        numbers, classes = _idx_classes(folder, np.concatenate([labels for _, labels in arrays]))
        height, width = arrays[0][0].shape[1:]
        schema = Schema(classes, height, width)
        rows = {number: row for row, number in enumerate(numbers)}
        parts = [_labelled(pixels, labels, rows, folder, schema) for pixels, labels in arrays]
        return schema, [
            replace(part, names=numbered(name, len(part))) for name, part in zip(IDX_FILES, parts, strict=False)
        ]
    roots = _part_folders(folder)
    schema = _schema_of_classes(roots[0], image_size)
    return schema, [_read_class_folders(root, folder, schema) for root in roots]


def read_more(folder: Path, schema: Schema, dataset: Path) -> LabelledImages:
    """Read more images of the classes in `schema`, under the labels of `dataset`. Raises `ValueError` for others."""
    files = _idx_files(folder)
    if not files:
        return _read_class_folders(folder, folder, schema)
    pixels, labels = _read_idx_part(folder, files, "train")
    part = _labelled(pixels, labels, _rows_of_numbers(folder, labels, schema, dataset), folder, schema)
    return replace(part, names=numbered("train", len(part)))


def _rows_of_numbers(folder: Path, labels: np.ndarray, schema: Schema, dataset: Path) -> dict[int, int]:
    """Return which class of `schema` each number stands for that is a label of more images, in `folder`."""
    row_of = {name: row for row, name in enumerate(schema.classes)}
    if (folder / CLASSES_FILE).is_file():  # it says itself what its labels stand for
        names = dict(zip(*_idx_classes(folder, labels), strict=True))
        if others := {names[number] for number in np.unique(labels).tolist()} - {*row_of}:
            raise ValueError(f"{folder} has images of {listed(sorted(others))}, and the classes are {listed(row_of)}")
        return {number: row_of[name] for number, name in names.items() if name in row_of}
    known = [read_idx(kinds["labels"]) for kinds in _idx_files(dataset).values() if "labels" in kinds]
    if known:
        return {number: row for row, number in enumerate(_idx_classes(dataset, np.concatenate(known))[0])}
    if all(name.isdecimal() and name == str(int(name)) for name in row_of):
        return {int(name): row for name, row in row_of.items()}
    raise ValueError(
        f"{folder} has numbers as labels, and the classes are {listed(row_of)}: name them, in the order of the "
        f"numbers, in a file {CLASSES_FILE} there"
    )


def _part(name: str) -> str:
    """Return which part of a dataset the name of a file or folder stands for: train, test, val, or none."""
    found = {PART_OF.get(word, word) for word in re.findall(PART, name.lower())}
    return found.pop() if len(found) == 1 else ""


def _part_folders(folder: Path) -> list[Path]:
    """Return the folders of train and test, of train alone, or the folder itself."""
    folder = _inner(folder)
    parts = {each: _part(each.name) for each in _folders(folder)}
    if not parts:
        raise ValueError(
            f"{folder} is not a dataset: it must hold a folder of images for each class, or train/ and test/ with such "
            f"folders, or IDX files with the names of MNIST's ({', '.join(IDX_FILES['train'])}, t10k-… for the holdout)"
        )
    train, test = ([each for each, part in parts.items() if part == wanted] for wanted in ("train", "test"))
    are_parts = any(_folders(each) for each in train) or (all(parts.values()) and len({*parts.values()}) > 1)
    if not are_parts:
        return [folder]
    if len(train) != 1 or len(test) > 1 or len(parts) > len(train + test):
        names = printable(", ".join(each.name for each in parts))
        raise ValueError(f"{folder} holds {names}: move all images to a folder train, or to train and test")
    return [_inner(each) for each in train + test]


def _inner(folder: Path) -> Path:
    """Return the folder of the same name that is all that `folder` holds, as in many an archive, or `folder` itself."""
    return folder / folder.name if [each.name for each in _folders(folder)] == [folder.name] else folder


def _schema_of_classes(root: Path, image_size: int | None) -> Schema:
    """Return the classes in `root`, and the size that their images will have."""
    folders = _folders(root)
    classes = tuple(sorted({_class_name(each.name, root) for each in folders}))
    if len(classes) < 2:
        found = f"one class only, {classes[0]}" if classes else "no folder of images for a class"
        raise ValueError(f"{root} holds {found}: there must be a folder of images for each of two")
    _check_distinct(classes, root)
    files: list[Path] = []
    for each in folders:
        pictures, left_out = find_pictures(each)
        if not pictures:
            raise ValueError(no_images(each, left_out))
        files += pictures
    height, width = (image_size, image_size) if image_size else _common_size(files)
    return Schema(classes, height, width, "resized")


def _class_name(name: str, where: Path) -> str:
    """Return the name of a class, in the one form of its letters that Linux and macOS may both write."""
    if (shown := printable(name)) != name:
        raise ValueError(f"{where} holds a class whose name cannot be shown, {shown}: rename it")
    if not as_seen(name):
        raise ValueError(f"{where} holds a class whose name cannot be seen, {name!a}: rename it")
    if name != name.strip():  # which a table would lose
        raise ValueError(f"{where} holds a class whose name begins or ends with a space, {name!r}: rename it")
    return unicodedata.normalize("NFC", name)


def _check_distinct(classes: Sequence[str], where: Path) -> None:
    """Raise `ValueError` if two classes look the same."""
    first: dict[str, str] = {}
    for name in classes:
        if (other := first.setdefault(as_seen(name), name)) != name:
            raise ValueError(f"{where} holds two classes that look the same, {other!a} and {name!a}: rename one")


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    """Return the height and width of the images in `files` if all have the same and it is small; else MNIST's."""
    sizes = set[tuple[int, ...]]()
    for file in files:
        with contextlib.suppress(Exception):  # reported when it is read
            with Image.open(file) as image:
                size = image.size[::-1]
            if size not in sizes:  # it may be damaged, or to be rotated
                sizes.add(preprocessing.read_grey(file).shape)
        if len(sizes) > 1 or max(map(max, sizes), default=0) > MAX_OWN_SIZE:
            return preprocessing.SIDE, preprocessing.SIDE
    ((height, width),) = sizes or {(preprocessing.SIDE, preprocessing.SIDE)}
    return height, width


def _read_class_folders(root: Path, folder: Path, schema: Schema) -> LabelledImages:
    """Read the class folders in `root`; files are named relative to `folder`."""
    class_folders = _folders(root)
    if not class_folders and any(root.iterdir()):
        raise ValueError(f"{root} holds no folder of images for a class: nothing in it has a label")
    pixels = [np.empty((0, schema.height, schema.width), np.uint8)]
    labels: list[int] = []
    names: list[str] = []
    colours: list[tuple[float, float]] = []
    unreadable: dict[str, str] = {}
    left_out = _without_class(root)
    for each in class_folders:
        name = _class_name(each.name, root)
        if name not in schema.classes:
            known = listed(schema.classes, most=20)
            raise ValueError(f"{each} is not one of the classes to train on: they are {known}")
        files, more = find_pictures(each)
        read = read_pictures(files, folder, schema)
        pixels.append(read.images)
        labels += [schema.classes.index(name)] * len(read.images)
        names += [str(each) for each in read.names]
        colours += read.colours
        unreadable |= read.unreadable
        left_out += Counter(read.left_out) + more
    return LabelledImages(
        np.concatenate(pixels),
        np.array(labels, np.int64),
        unreadable,
        left_out,
        np.array(names, np.str_),
        np.array(colours).reshape(-1, 2),
    )


def _without_class(root: Path) -> Counter[str]:
    """Count the pictures in `root` that are in the folder of no class."""
    left_out = Counter[str]()
    for each in root.iterdir():
        if each.is_dir() and is_hidden(each):
            left_out[f"images in the hidden folder {printable(each.name)}"] += len(find_pictures(each)[0])
        elif not each.is_dir() and not is_hidden(each) and each.suffix.lower() in preprocessing.FILE_FORMATS:
            left_out["images beside the folders of the classes"] += 1
    return +left_out


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and not is_hidden(each))


def _idx_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the IDX files of images and of labels in each part, by what their names say, however they are spelled."""
    found: dict[str, dict[str, Path]] = {}
    visible = (each for each in folder.iterdir() if not is_hidden(each))
    for each in sorted(visible, reverse=True):  # an unpacked file takes the place of its packed one
        for file in (each, each / each.name):  # Kaggle puts each into a folder of its own name
            kind = re.search("images|labels", file.name.lower())
            part = _part(file.name)
            if "idx" in file.name.lower() and part and kind and file.is_file():
                other = found.setdefault(part, {}).get(kind[0], file)
                if _stem(other) != _stem(file):
                    raise ValueError(f"{folder} holds {file.name} and {other.name}: keep one set of files in it")
                found[part][kind[0]] = file
    return found


def _stem(file: Path) -> str:
    return re.sub(r"\.gz$|[\W_]", "", file.name.lower())


def _read_idx_part(folder: Path, files: Mapping[str, Mapping[str, Path]], part: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for name, kind, dimensions in zip(IDX_FILES[part], ("images", "labels"), (3, 1), strict=True):
        file = files.get(part, {}).get(kind)
        if file is None:
            raise ValueError(f"there is no {name} in {folder}, nor {name}.gz")
        array = read_idx(file)
        is_right = array.dtype == np.uint8 if kind == "images" else array.dtype.kind in "iu"
        if not is_right or array.ndim != dimensions:
            wanted = "uint8 images (N, height, width)" if kind == "images" else "whole numbers (N,)"
            raise ValueError(f"{file} must hold {wanted}, not {array.dtype} {array.shape}")
        arrays.append(array)
    pixels, labels = arrays
    if len(pixels) != len(labels):
        raise ValueError(f"{folder} holds {len(pixels):,} images and {len(labels):,} labels for {part}")
    return pixels, labels


def _labelled(
    pixels: np.ndarray, labels: np.ndarray, rows: Mapping[int, int], folder: Path, schema: Schema
) -> LabelledImages:
    """Return the images of IDX files with their classes, which the numbers in `rows` stand for."""
    height, width = pixels.shape[1:]
    if (height, width) != (schema.height, schema.width):
        raise ValueError(f"the images in {folder} are {height}×{width}, and not {schema.height}×{schema.width}")
    if unknown := sorted({*labels.tolist()} - {*rows}):
        raise ValueError(f"{folder} has labels {unknown[:5]}, and the classes are {', '.join(map(str, rows))}")
    numbers, found = np.unique(labels, return_inverse=True)
    return LabelledImages(pixels, np.array([rows[number] for number in numbers.tolist()], np.int64)[found])


def _idx_classes(folder: Path, labels: np.ndarray) -> tuple[Sequence[int], tuple[str, ...]]:
    """Return the numbers of the classes, and their names: those in the file beside the IDX files, or the numbers."""
    numbers = np.unique(labels).tolist()
    file = folder / CLASSES_FILE
    if not file.is_file():
        return numbers, tuple(map(str, numbers))
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not in UTF-8: save it as UTF-8 text") from None
    names = tuple(_class_name(line.strip(), file) for line in lines if line.strip())
    in_order = len(names) == len(numbers)  # else a line for each number from 0, whether there are images of it or not
    if len({*names}) < len(names) or not (in_order or len(names) > max(numbers, default=-1)):
        raise ValueError(f"{file} must name {len(numbers)} classes, each once, not {', '.join(names)}")
    _check_distinct(names, file)
    return (numbers if in_order else range(len(names))), names
