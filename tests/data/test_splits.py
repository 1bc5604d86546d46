"""Each image is in one set only, and stays there as the data grow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnist_pipeline.data import splits as data_splits
from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.data.schema import Schema, normalize
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Examples, Splits, belongs_to_holdout, load_splits, make_examples
from tests.data.files import random_pixels, write_idx, write_pictures


def load(folder: Path, **fields: Any) -> Splits:
    return load_splits(DataSource(dataset=str(folder), **fields), folder)


def images_of(part: Examples) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.pixels}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for seed, name in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "pets" / name, random_pixels(100, 12, 10, seed=seed))
    return tmp_path / "pets"


def test_mnist_is_split_as_in_the_tutorial(splits: Splits) -> None:
    assert {name: len(part) for name, part in splits.named().items()} == {
        "train": 48_000,
        "test": 12_000,
        "holdout": 10_000,
    }
    assert splits.test.labels[:12].tolist() == [3, 6, 6, 6, 0, 3, 6, 2, 5, 6, 5, 8]
    assert splits.holdout.labels[:5].tolist() == [7, 2, 1, 0, 4]  # MNIST's official test images
    assert splits.schema == Schema()
    assert str(splits) == f"48,000 images ({splits.train.sha256[:8]})"


def test_images_are_floats_from_0_to_1_and_map_back_to_their_pixels(splits: Splits) -> None:
    for part in splits.named().values():
        assert part.images.dtype == torch.float32
        assert part.images.shape == (len(part), 28, 28)
        assert (part.images.min().item(), part.images.max().item()) == (0, 1)
    every_pixel = torch.arange(256, dtype=torch.uint8)
    assert torch.equal((255 * normalize(every_pixel)).round().to(torch.uint8), every_pixel)


def test_a_dataset_without_a_test_part_is_cut_into_three(pets: Path) -> None:
    splits = load(pets)
    assert splits.schema == Schema(("cat", "dog"), 12, 10, "resized")
    assert sum(map(len, splits.named().values())) == 200
    assert len(set.union(*map(images_of, splits.named().values()))) == 200
    assert len(splits.test) == pytest.approx(0.2 * (len(splits.train) + len(splits.test)), abs=1)
    assert len(splits.holdout) == pytest.approx(0.15 * 200, abs=15)


def test_a_test_part_is_the_holdout(tmp_path: Path) -> None:
    train, test = random_pixels(40, 12, 10), random_pixels(6, 12, 10, seed=1)
    write_idx(tmp_path, "train", train, np.arange(40, dtype=np.uint8) % 12)
    write_idx(tmp_path, "test", test, np.arange(6, dtype=np.uint8))
    splits = load(tmp_path)
    assert (len(splits.train), len(splits.test)) == (32, 8)
    assert (splits.holdout.pixels.numpy() == test).all()
    assert splits.train.labels.max() == 11  # there may be more than ten classes


def test_fifteen_per_cent_of_images_belong_to_the_holdout() -> None:
    assert belongs_to_holdout(random_pixels(5000, 4, 4)).mean() == pytest.approx(0.15, abs=0.02)


def test_an_image_stays_in_or_out_of_the_holdout_as_the_data_grow(pets: Path) -> None:
    before = load(pets)
    write_pictures(pets / "cat", random_pixels(100, 12, 10, seed=2))
    (pets / "dog" / "000.png").rename(pets / "dog" / "renamed.png")
    after = load(pets)
    assert images_of(before.holdout) <= images_of(after.holdout)
    assert not images_of(before.holdout) & (images_of(after.train) | images_of(after.test))
    assert not images_of(after.holdout) & (images_of(before.train) | images_of(before.test))


def test_too_few_images_to_cut_are_refused(tmp_path: Path) -> None:
    images = random_pixels(20, 4, 4)
    none_for_holdout = images[~belongs_to_holdout(images)][:2]
    write_idx(tmp_path, "train", none_for_holdout, np.arange(2, dtype=np.uint8))
    with pytest.raises(ValueError, match="2 images are too few: a holdout is cut from them, and none belongs to it"):
        load(tmp_path)
    write_idx(tmp_path, "train", none_for_holdout[:1], np.zeros(1, np.uint8))
    write_idx(tmp_path, "test", none_for_holdout, np.arange(2, dtype=np.uint8))
    with pytest.raises(ValueError, match="too few images to split: 1"):
        load(tmp_path)


def test_the_validation_part_is_always_the_same_fifth(splits: Splits) -> None:
    remaining, fifth = data_splits.validation_split(splits.holdout, classes=10)
    assert (len(remaining), len(fifth)) == (8_000, 2_000)
    assert data_splits.validation_split(splits.holdout, classes=10)[1].sha256 == fifth.sha256
    assert images_of(remaining) | images_of(fifth) == images_of(splits.holdout)
    assert not images_of(remaining) & images_of(fifth)


def test_a_validation_part_has_its_share_of_each_class() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    rare = make_examples(LabelledImages(random_pixels(100, 4, 4), labels))
    _, part = data_splits.validation_split(rare, classes=10, share=0.1)
    assert part.labels.bincount().tolist() == [8, 2]


def test_a_validation_part_is_cut_from_more_than_ten_classes_too() -> None:
    dozen = make_examples(LabelledImages(random_pixels(12, 4, 4), np.arange(12)), classes=12)
    parts = data_splits.validation_split(dozen, classes=12)
    assert sorted(label for part in parts for label in part.labels.tolist()) == [*range(12)]


def test_examples_are_identified_by_their_pixels_and_labels() -> None:
    pixels, labels = random_pixels(2, 28, 28), np.array([0, 1])
    sha256 = make_examples(LabelledImages(pixels, labels)).sha256
    assert make_examples(LabelledImages(pixels.copy(order="F"), labels.copy())).sha256 == sha256
    for other in (
        LabelledImages(pixels, labels[::-1].copy()),
        LabelledImages(pixels ^ np.uint8(1), labels),
        LabelledImages(pixels.reshape(2, 14, 56), labels),
    ):
        assert make_examples(other).sha256 != sha256


def test_splits_are_identified_by_all_three_sets() -> None:
    zeros, ones = (make_examples(LabelledImages(np.full((1, 4, 4), n, np.uint8), np.array([0]))) for n in (0, 1))
    all_zeros = Splits(zeros, zeros, zeros)
    assert Splits(zeros, zeros, zeros, DataSource(data_dir=Path("elsewhere"))).sha256 == all_zeros.sha256
    others = {Splits(ones, zeros, zeros).sha256, Splits(zeros, ones, zeros).sha256, Splits(zeros, zeros, ones).sha256}
    assert len(others | {all_zeros.sha256}) == 4


@pytest.mark.parametrize(
    ("pixels", "labels", "problem"),
    [
        (np.zeros((2, 28, 28)), [0, 1], r"images must be uint8 .*, not float64 \(2, 28, 28\)"),
        (np.zeros((2, 784), np.uint8), [0, 1], r"images must be .*, not uint8 \(2, 784\)"),
        (np.zeros((2, 28, 28), np.uint8), [0], "2 images need as many labels"),
        (np.zeros((2, 28, 28), np.uint8), [0, 10], "labels must be in 0 to 9, not in 0 to 10"),
        (np.zeros((2, 28, 28), np.uint8), [-1, 0], "labels must be in 0 to 9, not in -1 to 0"),
    ],
)
def test_malformed_examples_are_refused(pixels: np.ndarray, labels: list[int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make_examples(LabelledImages(pixels, np.array(labels)))


def test_extra_images_join_the_training_split_alone(pets: Path, tmp_path: Path) -> None:
    before = load(pets)
    write_pictures(tmp_path / "new" / "dog", random_pixels(30, 12, 10, seed=2))
    after = load(pets, extra=tmp_path / "new")
    assert after.extra
    joined = len(after.extra.examples)
    assert after.extra.dropped == {data_splits.KEPT_FOR_HOLDOUT: 30 - joined}
    assert images_of(after.train) == images_of(before.train) | images_of(after.extra.examples)
    assert after.train.labels[-joined:].tolist() == [1] * joined
    assert (after.test.sha256, after.holdout.sha256) == (before.test.sha256, before.holdout.sha256)
    assert after.train.sha256 != before.train.sha256
    assert f"{joined} of them from new" in str(after)


def test_extra_images_that_move_into_the_dataset_later_never_reach_the_holdout(pets: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "new" / "dog", random_pixels(100, 12, 10, seed=2))
    learnt = images_of(load(pets, extra=tmp_path / "new").train)
    for file in (tmp_path / "new" / "dog").iterdir():
        file.rename(pets / "dog" / f"moved-{file.name}")
    assert not images_of(load(pets).holdout) & learnt


def test_no_extra_image_is_kept_for_a_holdout_that_the_dataset_brings_along(tmp_path: Path) -> None:
    for seed, part in enumerate(("own/train/a", "own/train/b", "own/test/a", "own/test/b", "new/a")):
        write_pictures(tmp_path / part, random_pixels(20, 12, 10, seed=seed))
    extra = load(tmp_path / "own", extra=tmp_path / "new").extra
    assert extra
    assert (len(extra.examples), extra.dropped) == (20, {})


def nearly(image: np.ndarray) -> np.ndarray:
    """Return an image that looks like `image`, and does not belong to the holdout."""
    random = np.random.default_rng(0)
    while True:
        noisy: np.ndarray = (image.astype(int) + random.integers(-3, 4, image.shape)).clip(0, 255).astype(np.uint8)
        if not belongs_to_holdout(noisy[None]):
            return noisy


def test_extra_images_that_a_split_has_already_are_dropped(pets: Path, tmp_path: Path) -> None:
    before = load(pets)
    holdout, test, train = (part.pixels.numpy() for part in (before.holdout, before.test, before.train))
    own_class, other_class = ("cat", "dog") if before.train.labels[0] == 0 else ("dog", "cat")
    write_pictures(tmp_path / "new" / own_class, np.stack([holdout[0], test[0], nearly(holdout[1]), train[0]]))
    write_pictures(tmp_path / "new" / other_class, train[:1])
    (tmp_path / "new" / "cat" / "x.png").write_bytes(b"no image")
    extra = load(pets, extra=tmp_path / "new").extra
    assert extra
    assert len(extra.examples) == 0
    assert extra.dropped == {
        "unreadable": 1,
        "in the test split or the holdout": 2,
        "nearly the same as an image of the test split or the holdout": 1,
        "already there": 1,
        "already there with another label": 1,
    }


def test_pictures_of_any_size_may_join_mnist(source: DataSource, files: Path, tmp_path: Path) -> None:
    drawn = np.full((100, 100), 255, np.uint8)
    drawn[20:80, 45:55] = 0
    write_pictures(tmp_path / "1", drawn[None])
    extra = load_splits(DataSource(data_dir=source.data_dir, extra=tmp_path), files).extra
    assert extra
    (one,) = extra.examples.pixels
    assert one.shape == (28, 28)
    assert one[:, :8].max() == 0  # light on dark, as MNIST's own
    assert one[5:22, 13:15].min() > 200


def test_a_files_problem_is_listed_with_the_splits(pets: Path) -> None:
    (pets / "cat" / "x.png").write_bytes(b"no image")
    assert [*load(pets).unreadable] == ["cat/x.png"]
