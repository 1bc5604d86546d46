"""A user's own data: a folder of images for each class, or IDX files under MNIST's names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_pipeline.config import FieldError
from mnist_pipeline.data import preprocessing
from mnist_pipeline.data.readers import LabelledImages, image_files, read_idx, read_pictures
from mnist_pipeline.data.schema import Schema

MAX_OWN_SIZE = 64  # pixels of height or width up to which images that are all of one size keep it
IDX_FILES = {  # images and labels, packed or not
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CLASSES_FILE = "classes.txt"  # beside IDX files: the names of the classes, one per line


def read(folder: Path, *, image_size: int | None = None) -> tuple[Schema, list[LabelledImages]]:
    """Read the dataset in `folder`: its schema, and train and test, or train alone.

    Raises `ValueError` if it is not a dataset.
    """
    if _is_idx(folder):
        if image_size:
            raise FieldError("image_size", f"is for folders of images: those in {folder} are used as they are")
        parts = [_read_idx_part(folder, part) for part in IDX_FILES if part == "train" or _idx_file(folder, part)]
        height, width = parts[0].pixels.shape[1:]
        count = max(int(part.labels.max(initial=0)) for part in parts) + 1
        schema = Schema(_idx_classes(folder, count=count), height, width)
        for part in parts:
            _check_size(part, folder, schema)
        return schema, parts
    roots = _part_folders(folder)
    schema = _schema_of_classes(roots[0], image_size)
    return schema, [_read_class_folders(root, folder, schema) for root in roots]


def read_more(folder: Path, schema: Schema) -> LabelledImages:
    """Read more images of the classes in `schema`. Raises `ValueError` if they are of others."""
    if not _is_idx(folder):
        return _read_class_folders(folder, folder, schema)
    part = _read_idx_part(folder, "train")
    _check_size(part, folder, schema)
    largest = int(part.labels.max(initial=0))
    if largest >= len(schema.classes):
        raise ValueError(f"the labels in {folder} go up to {largest}, and there are {len(schema.classes)} classes")
    return part


def _part_folders(folder: Path) -> list[Path]:
    """Return the folders of train and test, of train alone, or the folder itself."""
    names = [each.name for each in _folders(folder)]
    if not names:
        raise ValueError(
            f"{folder} is not a dataset: it must hold a folder of images for each class, or train/ and test/ with such "
            f"folders, or IDX files with the names of MNIST's ({', '.join(IDX_FILES['train'])}, t10k-… for the holdout)"
        )
    if "train" not in names or not _folders(folder / "train"):
        return [folder]
    if others := sorted({*names} - {"train", "test"}):
        raise ValueError(f"{folder} holds {', '.join(others)} beside train: move their images to train or to test")
    return [folder / name for name in ("train", "test") if name in names]


def _schema_of_classes(root: Path, image_size: int | None) -> Schema:
    """Return the classes in `root`, and the size that their images will have."""
    classes = tuple(each.name for each in _folders(root))
    if len(classes) < 2:
        raise ValueError(f"{root} holds one class only, {classes[0]}: there must be a folder of images for each of two")
    if empty := [name for name in classes if not image_files(root / name)]:
        suffixes = ", ".join(preprocessing.FILE_FORMATS)
        raise ValueError(f"there are no images in {root / empty[0]}: the file types read are {suffixes}")
    height, width = (image_size, image_size) if image_size else _common_size(image_files(root))
    return Schema(classes, height, width, "resized")


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    """Return the height and width of the images in `files` if all have the same and it is small; else MNIST's."""
    sizes = set()
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.add(image.size)
        except (OSError, Image.DecompressionBombError):  # reported when it is read
            continue
        if len(sizes) > 1 or max(image.size) > MAX_OWN_SIZE:
            return preprocessing.SIDE, preprocessing.SIDE
    ((width, height),) = sizes or {(preprocessing.SIDE, preprocessing.SIDE)}
    return height, width


def _read_class_folders(root: Path, folder: Path, schema: Schema) -> LabelledImages:
    """Read the class folders in `root`; files are named relative to `folder`."""
    class_folders = _folders(root)
    if not class_folders and any(root.iterdir()):
        raise ValueError(f"{root} holds no folder of images for a class: nothing in it has a label")
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    unreadable: dict[str, str] = {}
    for each in class_folders:
        if each.name not in schema.classes:
            known = ", ".join(schema.classes[:20])
            raise ValueError(f"{each} is not one of the classes to train on: they are {known}")
        images, problems = read_pictures(image_files(each), folder, schema)
        pixels += images.values()
        labels += [schema.classes.index(each.name)] * len(images)
        unreadable |= problems
    stacked = np.stack(pixels) if pixels else np.empty((0, schema.height, schema.width), np.uint8)
    return LabelledImages(stacked, np.array(labels, np.int64), unreadable)


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] not in "._")


def _is_idx(folder: Path) -> bool:
    return any(_idx_file(folder, part, kind) for part in IDX_FILES for kind in (0, 1))


def _idx_file(folder: Path, part: str, kind: int = 0) -> Path | None:
    """Return the file of a part's images (kind 0) or labels (1), if it is there."""
    name = IDX_FILES[part][kind]
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def _read_idx_part(folder: Path, part: str) -> LabelledImages:
    arrays = []
    for kind, (dimensions, wanted) in enumerate([(3, "images (N, height, width)"), (1, "labels (N,)")]):
        file = _idx_file(folder, part, kind)
        if file is None:
            name = IDX_FILES[part][kind]
            raise ValueError(f"there is no {name} in {folder}, nor {name}.gz")
        array = read_idx(file)
        if array.dtype != np.uint8 or array.ndim != dimensions:
            raise ValueError(f"{file} must hold uint8 {wanted}, not {array.dtype} {array.shape}")
        arrays.append(array)
    pixels, labels = arrays
    if len(pixels) != len(labels):
        raise ValueError(f"{folder} holds {len(pixels):,} images and {len(labels):,} labels for {part}")
    return LabelledImages(pixels, labels.astype(np.int64))


def _check_size(part: LabelledImages, folder: Path, schema: Schema) -> None:
    height, width = part.pixels.shape[1:]
    if (height, width) != (schema.height, schema.width):
        raise ValueError(f"the images in {folder} are {height}×{width}, and not {schema.height}×{schema.width}")


def _idx_classes(folder: Path, *, count: int) -> tuple[str, ...]:
    """Return the classes' names: those in the file beside the IDX files, or else their numbers."""
    if not (folder / CLASSES_FILE).is_file():
        return tuple(map(str, range(count)))
    lines = (folder / CLASSES_FILE).read_text().split("\n")
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) < count or len({*names}) < len(names):
        raise ValueError(f"{folder / CLASSES_FILE} must name {count} classes, each once, not {', '.join(names)}")
    return names
