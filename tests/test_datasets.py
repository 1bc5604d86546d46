"""Data of the user's own: what is read from a folder, which image is for what, and what is refused."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_pipeline import config, data, datasets, images
from mnist_pipeline.config import DataSource, Schema
from mnist_pipeline.data import Splits

RANDOM = np.random.default_rng(0)


def pixels(count: int, height: int = 12, width: int = 10) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, height, width), np.uint8)


def write(folder: Path, pictures: np.ndarray, *, ends: str = ".png") -> None:
    """Write a folder of images for a class."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in pictures:
        Image.fromarray(image).save(folder / f"{len(list(folder.iterdir())):03}{ends}")


def write_idx(folder: Path, names: tuple[str, str], shown: np.ndarray, labels: np.ndarray, *, pack: bool) -> None:
    folder.mkdir(exist_ok=True)
    for name, values in zip(names, (shown, labels), strict=True):
        content = b"\0\0\x08" + bytes([values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
        file = folder / (f"{name}.gz" if pack else name)
        file.write_bytes(gzip.compress(content) if pack else content)


def read(folder: Path, **options: object) -> Splits:
    return datasets.prepare(DataSource(dataset=str(folder), **options), folder)  # type: ignore[arg-type]


def images_of(part: data.Examples) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.pixels}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        write(tmp_path / "Our Pets" / name, pixels(100))
    return tmp_path / "Our Pets"


def test_a_folder_of_images_for_each_class_tells_the_classes_and_the_size(pets: Path) -> None:
    splits = read(pets)
    assert splits.schema == Schema(("cat", "dog"), 12, 10, "resized")
    assert len(splits.train) + len(splits.test) + len(splits.exam) == 200
    assert len(splits.test) == pytest.approx(0.2 * (len(splits.train) + len(splits.test)), abs=1)
    assert len(splits.exam) == pytest.approx(0.15 * 200, abs=15)


def test_the_model_is_named_after_the_folder(pets: Path) -> None:
    assert DataSource(dataset=str(pets)).model_name == "our-pets-mlp"
    assert DataSource(dataset=str(pets), name="pets").model_name == "pets-mlp"
    assert DataSource().model_name == "mnist-mlp"
    assert config.model_name(str(pets)) == config.model_name("our-pets") == "our-pets-mlp"
    assert config.model_name("mnist") == "mnist-mlp"


def test_an_image_stays_where_it_is_as_the_data_grow(pets: Path) -> None:
    before = read(pets)
    write(pets / "cat", pixels(100))
    (pets / "dog" / "000.png").rename(pets / "dog" / "renamed.png")
    after = read(pets)
    assert images_of(before.exam) <= images_of(after.exam)
    learnt = images_of(after.train) | images_of(after.test)
    assert not images_of(before.exam) & learnt
    assert not images_of(after.exam) & (images_of(before.train) | images_of(before.test))


def test_a_folder_test_is_the_exam(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "train" / name, pixels(20))
        write(tmp_path / "test" / name, pixels(3))
    splits = read(tmp_path)
    assert (len(splits.train), len(splits.test), len(splits.exam)) == (32, 8, 6)


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("with_exam", [False, True])
def test_idx_files_are_read_as_mnists_are(tmp_path: Path, pack: bool, with_exam: bool) -> None:
    shown, labels = pixels(100, 20, 20), np.arange(100, dtype=np.uint8) % 3
    write_idx(tmp_path, datasets.IDX_FILES["train"], shown, labels, pack=pack)
    if with_exam:
        write_idx(tmp_path, datasets.IDX_FILES["test"], shown[:30], labels[:30], pack=pack)
    splits = read(tmp_path)
    assert splits.schema == Schema(("0", "1", "2"), 20, 20, "like-mnist")
    assert (len(splits.exam) == 30) == with_exam
    assert splits.exam.labels.unique().tolist() == [0, 1, 2]


def test_a_file_beside_idx_files_names_the_classes(tmp_path: Path) -> None:
    write_idx(tmp_path, datasets.IDX_FILES["train"], pixels(40), np.arange(40, dtype=np.uint8) % 2, pack=False)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert read(tmp_path).schema.classes == ("cat", "dog")


def test_mnist_itself_is_read_as_ever(splits: Splits, source: DataSource, files: Path) -> None:
    again = datasets.prepare(source, files)
    assert [part.sha256 for part in (again.train, again.test, again.exam)] == [
        part.sha256 for part in (splits.train, splits.test, splits.exam)
    ]
    assert again.schema == Schema()


def test_images_of_many_sizes_and_colours_are_made_one_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, pixels(30, 40, 20))
        write(tmp_path / name, pixels(30, 90, 90), ends=".jpg")
        write(tmp_path / name, RANDOM.integers(0, 256, (5, 30, 30, 3), np.uint8), ends=".bmp")
    assert read(tmp_path).train.pixels.shape[1:] == (28, 28)
    assert read(tmp_path, side=16).train.pixels.shape[1:] == (16, 16)


def test_an_image_keeps_its_shape_and_its_ground() -> None:
    tall = np.full((40, 20), 200, np.float32)
    tall[10:30, 5:15] = 0
    seen = images.resized(tall, 20, 20)
    assert seen[:, :5].tolist() == [[200] * 5] * 20
    assert (seen[7:13, 9:11] < 20).all()
    assert (images.resized(tall, 40, 20) == tall).all()


def test_a_file_that_is_no_image_is_left_out_and_named(pets: Path) -> None:
    (pets / "cat" / "x.png").write_bytes(b"no image")
    (pets / "cat" / "notes.txt").write_text("not looked at")
    splits = read(pets)
    assert [*splits.unreadable] == ["cat/x.png"]
    assert len(splits.train) + len(splits.test) + len(splits.exam) == 200


def test_extra_images_join_the_training_split_alone(pets: Path, tmp_path: Path) -> None:
    before = read(pets)
    write(tmp_path / "new" / "dog", pixels(30))
    after = read(pets, extra=tmp_path / "new")
    assert after.extra
    joined = len(after.extra.examples)
    assert {**after.extra.dropped} == {datasets.KEPT_FOR_EXAM: 30 - joined}
    assert images_of(after.train) == images_of(before.train) | images_of(after.extra.examples)
    assert after.train.labels[-joined:].tolist() == [1] * joined
    assert (after.test.sha256, after.exam.sha256) == (before.test.sha256, before.exam.sha256)
    assert after.train.sha256 != before.train.sha256
    assert f"{joined} of them from new" in str(after)


def test_extra_images_can_be_moved_into_the_dataset_later(pets: Path, tmp_path: Path) -> None:
    write(tmp_path / "new" / "dog", pixels(100))
    learnt = images_of(read(pets, extra=tmp_path / "new").train)
    for file in (tmp_path / "new" / "dog").iterdir():
        file.rename(pets / "dog" / f"moved-{file.name}")
    assert not images_of(read(pets).exam) & learnt


def test_what_the_splits_hold_already_is_dropped_from_the_extra_images(pets: Path, tmp_path: Path) -> None:
    before = read(pets)
    exam, test, train = (part.pixels.numpy() for part in (before.exam, before.test, before.train))
    nearly = exam[1]
    while datasets.belongs_to_exam(nearly[None]):
        nearly = (exam[1].astype(int) + RANDOM.integers(-3, 4, exam[1].shape)).clip(0, 255).astype(np.uint8)
    own_class = "cat" if before.train.labels[0] == 0 else "dog"
    other_class = "dog" if own_class == "cat" else "cat"
    write(tmp_path / "new" / own_class, np.stack([exam[0], test[0], nearly, train[0]]))
    write(tmp_path / "new" / other_class, train[:1])
    extra = read(pets, extra=tmp_path / "new").extra
    assert extra
    assert len(extra.examples) == 0
    assert extra.dropped == {
        "of the test split or the exam": 2,
        "nearly of the test split or the exam": 1,
        "there already": 1,
        "there already with another label": 1,
    }


def test_pictures_may_join_mnist(source: DataSource, files: Path, tmp_path: Path) -> None:
    drawn = np.full((100, 100), 255, np.uint8)
    drawn[20:80, 45:55] = 0
    write(tmp_path / "1", drawn[None])
    splits = datasets.prepare(DataSource(data_dir=source.data_dir, extra=tmp_path), files)
    assert splits.extra
    (one,) = splits.extra.examples.pixels
    assert one.shape == (28, 28)
    assert one[:, :8].max() == 0  # light on dark, as MNIST's own
    assert one[5:22, 13:15].min() > 200


def refuse_empty_class(folder: Path) -> None:
    write(folder / "a", pixels(9))
    (folder / "b").mkdir()


def refuse_unknown_class(folder: Path) -> None:
    write(folder / "train" / "a", pixels(9))
    write(folder / "train" / "b", pixels(9))
    write(folder / "test" / "c", pixels(9))


def refuse_no_labels(folder: Path) -> None:
    refuse_unknown_class(folder)
    shutil.rmtree(folder / "test")
    write(folder / "test", pixels(9))


def refuse_val(folder: Path) -> None:
    refuse_unknown_class(folder)
    write(folder / "val" / "a", pixels(9))


def refuse_cut_off(folder: Path) -> None:
    write_idx(folder, datasets.IDX_FILES["train"], pixels(9), np.zeros(9, np.uint8), pack=True)
    packed = folder / f"{datasets.IDX_FILES['train'][0]}.gz"
    packed.write_bytes(packed.read_bytes()[:-20])


def refuse_lone_images(folder: Path) -> None:
    write_idx(folder, datasets.IDX_FILES["train"], pixels(9), np.zeros(9, np.uint8), pack=False)
    (folder / datasets.IDX_FILES["train"][1]).unlink()


def refuse_fewer_labels(folder: Path) -> None:
    write_idx(folder, datasets.IDX_FILES["train"], pixels(9), np.zeros(8, np.uint8), pack=False)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: None, "is no dataset: it must hold a folder of images for each class"),
        (lambda folder: write(folder / "a", pixels(9)), "one class alone, a"),
        (refuse_empty_class, "no images in .*b"),
        (refuse_unknown_class, "c is none of the classes to train on: they are a, b"),
        (refuse_no_labels, "test holds no folder of images for a class"),
        (refuse_val, "holds val beside train: move their images"),
        (refuse_cut_off, "is damaged"),
        (refuse_lone_images, "there is no train-labels-idx1-ubyte in"),
        (refuse_fewer_labels, "9 images and 8 labels for train"),
    ],
)
def test_a_folder_that_is_not_what_it_should_be_is_told(
    make: Callable[[Path], object], complaint: str, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    make(folder)
    with pytest.raises(ValueError, match=complaint):
        read(folder)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"dataset": "nowhere"}, "--dataset must be mnist, fashion-mnist, kmnist or a folder that there is"),
        ({"dataset": "mnist"}, "--name must be given for a folder called mnist"),
        ({"dataset": ".", "name": "a/b"}, "--name must be of letters"),
        ({"dataset": ".", "side": 3}, "--side must be between 4 and 128"),
        ({"extra": Path("nowhere")}, "--extra must be a folder that there is"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(
    fields: dict[str, object], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fields.get("dataset") == "mnist":
        (tmp_path / "mnist").mkdir()
        fields = {"dataset": f"{tmp_path}/mnist"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=complaint):
        DataSource(**fields)  # type: ignore[arg-type]


def test_the_share_of_the_exam_is_what_it_is_said_to_be() -> None:
    chosen = datasets.belongs_to_exam(pixels(5000, 4, 4))
    assert chosen.mean() == pytest.approx(datasets.EXAM_SHARE, abs=0.02)
    assert torch.tensor(chosen).dtype == torch.bool
