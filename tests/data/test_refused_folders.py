"""What is no dataset is refused with the reason."""

import bz2
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_pipeline.data import folders
from tests.data.files import write_idx, write_pictures
from tests.data.test_folders import IMAGES, LABELS, TRAIN_IMAGES, TRAIN_LABELS, pack


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


def no_train(folder: Path) -> None:
    for part in ("test/a", "test/b", "val/a", "val/b"):
        write_pictures(folder / part, IMAGES)


def parts_without_classes(folder: Path) -> None:
    for part in ("Train", "Test"):
        write_pictures(folder / part, IMAGES)


def class_with_a_space(root: Path) -> None:
    write_pictures(root / " lead", IMAGES[:2])
    write_pictures(root / "iron", IMAGES[2:4])


def unshowable_class(folder: Path) -> None:
    for name in ("a", "\x1b[31mred"):
        write_pictures(folder / name, IMAGES)


def idx_of_val(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / "val-images-idx3-ubyte").touch()


def two_sets(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / f"emnist-{TRAIN_IMAGES}").touch()


def names_in_latin_1(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / folders.CLASSES_FILE).write_text("é\nè\nê\n", "latin-1")


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


def packed_by_bzip2(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / TRAIN_IMAGES).write_bytes(bz2.compress((folder / TRAIN_IMAGES).read_bytes()))


def other_size_in_test(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    write_idx(folder, "test", IMAGES[:, :8], LABELS)


def a_name_twice(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / folders.CLASSES_FILE).write_text("cat\ndog\nhorse\ncat\n")


def too_few_names(folder: Path) -> None:
    write_idx(folder, "train", IMAGES, LABELS)
    (folder / folders.CLASSES_FILE).write_text("cat\ndog\n")


def invisible_class(folder: Path) -> None:
    for name in ("a", "\u200b"):
        write_pictures(folder / name, IMAGES[:2])


def alike_classes(folder: Path) -> None:
    for name in ("a b", "a\u200b\u00a0b"):
        write_pictures(folder / name, IMAGES[:2])


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (nothing, "is not a dataset: it must hold a folder of images for each class"),
        (one_class, "one class only, a"),
        (empty_class, "no images in .*b"),
        (unknown_class_in_test, "c is not one of the classes to train on: they are a, b"),
        (unlabelled_test, "test holds no folder of images for a class"),
        (unknown_part, "holds train, val: move all images to a folder train, or to train and test"),
        (no_train, "holds test, val: move all images"),
        (parts_without_classes, "Train holds no folder of images for a class"),
        (unshowable_class, r"a class whose name cannot be shown, \\x1b\[31mred: rename it"),
        (invisible_class, r"a class whose name cannot be seen, '\\u200b': rename it"),
        (alike_classes, r"two classes that look the same, 'a b' and 'a\\u200b\\xa0b': rename one"),
        (class_with_a_space, r"whose name begins or ends with a space, ' lead': rename it"),
        (idx_of_val, "holds IDX files of val: move their images"),
        (two_sets, "holds emnist-.* and train-.*: keep one set|holds train-.* and emnist-.*: keep one set"),
        (names_in_latin_1, "is not in UTF-8"),
        (truncated_idx, "is damaged: its header promises"),
        (packed_by_bzip2, "is packed by bzip2: unpack it, or pack it by gzip"),
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
