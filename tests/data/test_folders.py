"""A user's own dataset is read from class folders or IDX files, or refused with a reason."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mnist_pipeline.config import FieldError
from mnist_pipeline.data import folders
from mnist_pipeline.data.schema import Schema
from tests.data.files import random_pixels, write_idx, write_pictures

IMAGES = random_pixels(9, 12, 10)
LABELS = np.arange(9, dtype=np.uint8) % 3
TRAIN_IMAGES, TRAIN_LABELS = folders.IDX_FILES["train"]


def pack(file: Path) -> None:
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()


def test_class_folders_determine_the_classes_the_size_and_the_labels(tmp_path: Path) -> None:
    write_pictures(tmp_path / "dog", IMAGES[:2])
    write_pictures(tmp_path / "cat", IMAGES[2:5])
    (tmp_path / ".cache").mkdir()
    schema, (part,) = folders.read(tmp_path)
    assert schema == Schema(("cat", "dog"), 12, 10, "resized")
    assert part.labels.tolist() == [0, 0, 0, 1, 1]
    assert (part.pixels == IMAGES[[2, 3, 4, 0, 1]]).all()


def test_train_and_test_folders_are_two_parts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pictures(tmp_path / "train" / name, IMAGES[:3])
        write_pictures(tmp_path / "test" / name, IMAGES[3:4])
    schema, parts = folders.read(tmp_path)
    assert schema.classes == ("a", "b")
    assert [len(part) for part in parts] == [6, 2]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("parts", [["train"], ["train", "test"]])
def test_idx_files_are_read_packed_or_not(tmp_path: Path, packed: bool, parts: list[str]) -> None:
    for name in parts:
        write_idx(tmp_path, name, IMAGES, LABELS)
    for file in [*tmp_path.iterdir()] if packed else []:
        pack(file)
    schema, found = folders.read(tmp_path)
    assert schema == Schema(("0", "1", "2"), 12, 10, "like-mnist")
    assert len(found) == len(parts)
    for part in found:
        assert (part.pixels == IMAGES).all()
        assert part.labels.tolist() == LABELS.tolist()


def test_a_file_beside_idx_files_names_the_classes(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS)
    (tmp_path / folders.CLASSES_FILE).write_text("cat\ndog\nhorse\n")
    assert folders.read(tmp_path)[0].classes == ("cat", "dog", "horse")


def test_pictures_of_different_sizes_and_colours_are_made_one_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pictures(tmp_path / name, random_pixels(3, 40, 20))
        write_pictures(tmp_path / name, random_pixels(3, 90, 90), suffix=".jpg")
        write_pictures(tmp_path / name, random_pixels(3, 30, 30, 3), suffix=".bmp")
    for image_size, expected in ((None, 28), (16, 16)):
        schema, (part,) = folders.read(tmp_path, image_size=image_size)
        assert part.pixels.shape == (18, expected, expected)
        assert (schema.height, schema.width) == (expected, expected)


def test_an_unreadable_picture_is_left_out_and_reported(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_pictures(tmp_path / name, IMAGES)
    (tmp_path / "cat" / "x.png").write_bytes(b"no image")
    (tmp_path / "cat" / "notes.txt").write_text("not looked at")
    _, (part,) = folders.read(tmp_path)
    assert [*part.unreadable] == ["cat/x.png"]
    assert len(part) == 18


def test_more_images_take_their_labels_from_the_schema(tmp_path: Path) -> None:
    schema = Schema(("cat", "dog", "horse"), 12, 10, "resized")
    write_pictures(tmp_path / "pictures" / "horse", IMAGES)
    write_idx(tmp_path / "idx", "train", IMAGES, LABELS)
    assert folders.read_more(tmp_path / "pictures", schema).labels.tolist() == [2] * 9
    assert folders.read_more(tmp_path / "idx", schema).labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (Schema(("0", "1"), 12, 10), "labels in .* go up to 2, and there are 2 classes"),
        (Schema(("0", "1", "2"), 28, 28), "images in .* are 12×10, and not 28×28"),
    ],
)
def test_more_images_that_do_not_fit_the_schema_are_refused(schema: Schema, problem: str, tmp_path: Path) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS)
    with pytest.raises(ValueError, match=problem):
        folders.read_more(tmp_path, schema)


def test_idx_images_are_never_resized(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS)
    with pytest.raises(FieldError, match="image_size is for folders of images"):
        folders.read(tmp_path, image_size=16)


def nothing(folder: Path) -> None:
    assert not [*folder.iterdir()]


def one_class(folder: Path) -> None:
    write_pictures(folder / "a", IMAGES)


def empty_class(folder: Path) -> None:
    write_pictures(folder / "a", IMAGES)
    (folder / "b").mkdir()


def unknown_class_in_test(folder: Path) -> None:
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        write_pictures(folder / part / name, IMAGES)


def unlabelled_test(folder: Path) -> None:
    for part in ("train/a", "train/b", "test"):
        write_pictures(folder / part, IMAGES)


def unknown_part(folder: Path) -> None:
    for part in ("train/a", "train/b", "val/a"):
        write_pictures(folder / part, IMAGES)


def truncated_idx(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    file = folder / TRAIN_IMAGES
    file.write_bytes(file.read_bytes()[:-1])


def truncated_gzip(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    pack(folder / TRAIN_IMAGES)
    file = folder / f"{TRAIN_IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:-20])


def images_without_labels(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / TRAIN_LABELS).unlink()


def fewer_labels(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS[:8])


def labels_as_images(folder: Path) -> None:
    write_idx(folder, "train", LABELS, LABELS)


def other_size_in_test(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    write_idx(folder, "test", IMAGES[:, :8], LABELS)


def a_name_twice(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / folders.CLASSES_FILE).write_text("cat\ndog\nhorse\ncat\n")


def too_few_names(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / folders.CLASSES_FILE).write_text("cat\ndog\n")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (nothing, "is not a dataset: it must hold a folder of images for each class"),
        (one_class, "one class only, a"),
        (empty_class, "no images in .*b"),
        (unknown_class_in_test, "c is not one of the classes to train on: they are a, b"),
        (unlabelled_test, "test holds no folder of images for a class"),
        (unknown_part, "holds val beside train: move their images"),
        (truncated_idx, "is damaged: its header promises"),
        (truncated_gzip, "is damaged"),
        (images_without_labels, f"there is no {TRAIN_LABELS} in"),
        (fewer_labels, "9 images and 8 labels for train"),
        (labels_as_images, r"must hold uint8 images \(N, height, width\), not uint8 \(9,\)"),
        (other_size_in_test, "are 8×10, and not 12×10"),
        (too_few_names, "must name 3 classes, each once, not cat, dog"),
        (a_name_twice, "must name 3 classes, each once, not cat, dog, horse, cat"),
    ],
)
def test_a_folder_that_is_not_a_dataset_is_refused_with_the_reason(
    make: Callable[[Path], object], problem: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(ValueError, match=problem):
        folders.read(tmp_path)
