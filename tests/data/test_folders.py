"""A user's own dataset is read from class folders or IDX files."""

import gzip
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_pipeline.config import FieldError
from mnist_pipeline.data import folders
from mnist_pipeline.data.schema import Schema
from tests.data.files import exif, random_pixels, write_idx, write_pictures

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


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "Test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train_images", "test-images"),
        ("trainset", "testset"),
        ("train2017", "Test Data"),
        ("train", "holdout"),
        ("Trainingsdaten", "Testdaten"),
        ("pets/pets/train", "pets/pets/test"),
    ],
)
def test_train_and_test_are_recognised_however_they_are_called(train: str, test: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pictures(tmp_path / train / name, IMAGES[:3])
        write_pictures(tmp_path / test / name, IMAGES[3:4])
    schema, parts = folders.read(tmp_path / "pets" if train.startswith("pets") else tmp_path)
    assert schema.classes == ("a", "b")
    assert [len(part) for part in parts] == [6, 2]


@pytest.mark.parametrize("names", [("bullet_train", "steam_train"), ("train", "car"), ("test", "control")])
def test_classes_may_have_the_names_of_parts(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        write_pictures(tmp_path / name, IMAGES)
    assert folders.read(tmp_path)[0].classes == tuple(sorted(names))


def test_pictures_without_a_class_are_counted(tmp_path: Path) -> None:
    for name in (".", ".net", ".git", "@eaDir", "ring", "_background_"):
        write_pictures(tmp_path / name, IMAGES[: 3 if name != ".git" else 0])
    (tmp_path / "ring" / "a.gif").touch()
    schema, (part,) = folders.read(tmp_path)
    assert schema.classes == ("_background_", "ring")
    assert part.left_out == {
        "images in the hidden folder .net": 3,
        "images in the hidden folder @eaDir": 3,
        "images beside the folders of the classes": 3,
        ".gif files, which are not read": 1,
    }


def test_linked_folders_belong_to_their_class(tmp_path: Path) -> None:
    write_pictures(tmp_path / "store", IMAGES)
    for name in ("set/a", "set/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "batch").symlink_to(tmp_path / "store")
    assert len(folders.read(tmp_path / "set")[1][0]) == 18


def test_a_class_is_the_same_in_either_form_of_its_letters(tmp_path: Path) -> None:
    for name in ("é", "ü"):
        write_pictures(tmp_path / "train" / unicodedata.normalize("NFC", name), IMAGES)
        write_pictures(tmp_path / "test" / unicodedata.normalize("NFD", name), IMAGES)
    schema, parts = folders.read(tmp_path)
    assert schema.classes == ("é", "ü")
    assert [len(part) for part in parts] == [18, 18]


def test_the_size_is_that_of_the_upright_and_undamaged_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pictures(tmp_path / name, IMAGES)
        Image.fromarray(IMAGES[0].T).save(tmp_path / name / "lying.png", exif=exif(6))
    whole = (tmp_path / "a" / "000.png").read_bytes()
    Image.fromarray(random_pixels(50, 50)).save(tmp_path / "a" / "00.png")
    (tmp_path / "a" / "00.png").write_bytes((tmp_path / "a" / "00.png").read_bytes()[: len(whole)])
    schema, (part,) = folders.read(tmp_path)
    assert (schema.height, schema.width) == (12, 10)
    assert (len(part), [*part.unreadable]) == (20, ["a/00.png"])


RENAMED: dict[str, Callable[[str], str]] = {
    "folders of the same name": lambda name: f"{name}/{name}",
    "a dot": lambda name: name.replace("-idx", ".idx"),
    "a suffix without packing": lambda name: f"{name}.gz",
    "upper case": str.upper,
    "EMNIST's": lambda name: f"emnist-letters-{name.replace('t10k', 'test')}",
}


@pytest.mark.parametrize("how", RENAMED)
def test_idx_files_are_recognised_however_their_names_are_spelled(how: str, tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_idx(tmp_path / name, name, IMAGES, LABELS)
        for file in (tmp_path / name).iterdir():
            renamed = tmp_path / RENAMED[how](file.name)
            renamed.parent.mkdir(exist_ok=True)
            file.rename(renamed)
            (tmp_path / f"._{renamed.name}").touch()  # as macOS leaves behind
        (tmp_path / name).rmdir()
    assert [part.labels.tolist() for part in folders.read(tmp_path)[1]] == [LABELS.tolist()] * 2


def test_idx_files_are_unpacked_by_their_content(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS)
    file = tmp_path / TRAIN_IMAGES
    file.write_bytes(gzip.compress(file.read_bytes()))
    (tmp_path / f"{TRAIN_LABELS}.gz").write_bytes((tmp_path / TRAIN_LABELS).read_bytes())
    assert (folders.read(tmp_path)[1][0].pixels == IMAGES).all()


@pytest.mark.parametrize(
    ("labels", "names", "classes", "found"),
    [
        (LABELS + 1, "", ("1", "2", "3"), LABELS),
        (LABELS + 1, "a\nb\nc", ("a", "b", "c"), LABELS),
        (LABELS % 2 * 5 + 3, "", ("3", "8"), LABELS % 2),
        (LABELS, "a\nb\nc\nd", ("a", "b", "c", "d"), LABELS),
        (LABELS, "\ufeffa\r\nb\r\nc\r\n", ("a", "b", "c"), LABELS),
    ],
)
def test_labels_may_be_any_numbers(
    labels: np.ndarray, names: str, classes: tuple[str, ...], found: np.ndarray, tmp_path: Path
) -> None:
    write_idx(tmp_path, "train", IMAGES, labels)
    if names:
        (tmp_path / folders.CLASSES_FILE).write_text(names, "utf-8")
    schema, (part,) = folders.read(tmp_path)
    assert schema.classes == classes
    assert part.labels.tolist() == found.tolist()
    write_idx(tmp_path / "more", "train", IMAGES[:2], labels[1:3])
    assert folders.read_more(tmp_path / "more", schema, tmp_path).labels.tolist() == found[1:3].tolist()


def test_more_pictures_are_of_the_class_that_their_folder_names(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures" / "horse", IMAGES)
    schema = Schema(("cat", "dog", "horse"), 12, 10, "resized")
    assert folders.read_more(tmp_path / "pictures", schema, tmp_path).labels.tolist() == [2] * 9


@pytest.mark.parametrize(
    ("classes", "labels", "names", "found"),
    [
        (("cat", "dog", "horse"), LABELS, "cat\ndog\nhorse", LABELS),
        (("cat", "dog", "horse"), LABELS, "horse\ndog\ncat", 2 - LABELS),
        (("cat", "dog", "horse"), LABELS * 0, "horse", LABELS * 0 + 2),
        (tuple(sorted(map(str, range(11)))), LABELS, "", np.array([0, 1, 3])[LABELS]),  # 10 comes before 2
    ],
)
def test_the_numbers_of_more_images_stand_for_classes_by_name(
    classes: tuple[str, ...], labels: np.ndarray, names: str, found: np.ndarray, tmp_path: Path
) -> None:
    write_idx(tmp_path / "more", "train", IMAGES, labels)
    if names:
        (tmp_path / "more" / folders.CLASSES_FILE).write_text(names)
    read = folders.read_more(tmp_path / "more", Schema(classes, 12, 10, "resized"), tmp_path)
    assert read.labels.tolist() == found.tolist()


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("", r"name them, in the order of the numbers, in a file classes\.txt"),
        ("cat\ndog\nowl", "has images of owl, and"),
    ],
)
def test_numbers_that_stand_for_no_class_by_name_are_refused(names: str, problem: str, tmp_path: Path) -> None:
    write_idx(tmp_path / "more", "train", IMAGES, LABELS)
    if names:
        (tmp_path / "more" / folders.CLASSES_FILE).write_text(names)
    with pytest.raises(ValueError, match=problem):
        folders.read_more(tmp_path / "more", Schema(("cat", "dog", "horse"), 12, 10, "resized"), tmp_path)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (Schema(("0", "1"), 12, 10), r"has labels \[2\], and the classes are 0, 1"),
        (Schema(("0", "1", "2"), 28, 28), "images in .* are 12×10, and not 28×28"),
    ],
)
def test_more_images_that_do_not_fit_the_schema_are_refused(schema: Schema, problem: str, tmp_path: Path) -> None:
    write_idx(tmp_path / "more", "train", IMAGES, LABELS)
    with pytest.raises(ValueError, match=problem):
        folders.read_more(tmp_path / "more", schema, tmp_path)


def test_idx_images_are_never_resized(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS)
    with pytest.raises(FieldError, match="image_size is for folders of images"):
        folders.read(tmp_path, image_size=16)
