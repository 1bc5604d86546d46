"""What is found in data that are as they should be, and in data that are not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnist_pipeline import data, validation
from mnist_pipeline.config import Schema
from mnist_pipeline.data import Examples, Extra, Splits
from mnist_pipeline.validation import Finding, complaints, findings

TWO = Schema(("cat", "dog"), 8, 8, "resized")


def pets(count: int, *, seed: int, labels: torch.Tensor | None = None) -> Examples:
    """Cats are bright on the left, dogs on the right."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 100, (count, 8, 8), generator=generator)
    kinds = torch.arange(count) % 2
    for image, kind in zip(pixels, kinds, strict=True):
        image[:, :4] += 100 * (1 - kind)
        image[:, 4:] += 100 * kind
    return data.examples(pixels.to(torch.uint8), kinds if labels is None else labels)


def sound() -> Splits:
    return Splits(pets(800, seed=0), pets(200, seed=1), pets(200, seed=2), "", TWO)


def found(splits: Splits, check: str) -> Finding:
    (finding,) = (each for each in findings(splits) if each.check == check)
    return finding


def changed(part: Examples, pixels: torch.Tensor | None = None, labels: torch.Tensor | None = None) -> Examples:
    return data.examples(part.pixels if pixels is None else pixels, part.labels if labels is None else labels)


def test_mnist_gives_no_word_of_warning(splits: Splits) -> None:
    assert {each.level for each in findings(splits)} == {"ok"}


def test_nor_do_other_sound_data() -> None:
    assert [each for each in findings(sound()) if each.level != "ok"] == []
    assert complaints(findings(sound())) == ""


def shuffled(splits: Splits) -> Splits:
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(0))
    return replace(splits, train=changed(splits.train, labels=splits.train.labels[order]))


def all_the_same(splits: Splits) -> Splits:
    return replace(splits, train=changed(splits.train, torch.full_like(splits.train.pixels, 7)))


def divided_twice(splits: Splits) -> Splits:
    return replace(splits, train=changed(splits.train, splits.train.pixels // 128))


def inverted_exam(splits: Splits) -> Splits:
    return replace(splits, exam=changed(splits.exam, 255 - splits.exam.pixels))


def no_dogs_to_learn(splits: Splits) -> Splits:
    return replace(splits, train=changed(splits.train, labels=torch.zeros_like(splits.train.labels)))


def no_dogs_in_the_exam(splits: Splits) -> Splits:
    return replace(splits, exam=changed(splits.exam, labels=torch.zeros_like(splits.exam.labels)))


def few_dogs(splits: Splits) -> Splits:
    rows = (splits.train.labels == 0) | (torch.arange(len(splits.train)) < 20)
    return replace(splits, train=changed(splits.train, splits.train.pixels[rows], splits.train.labels[rows]))


def a_blank_image(splits: Splits) -> Splits:
    pixels = splits.train.pixels.clone()
    pixels[0] = 0
    return replace(splits, train=changed(splits.train, pixels))


def copies(splits: Splits) -> Splits:
    pixels, labels = splits.train.pixels, splits.train.labels
    return replace(
        splits, train=changed(splits.train, torch.cat([pixels, pixels[:20]]), torch.cat([labels, labels[:20]]))
    )


def a_leak(splits: Splits, count: int = 2) -> Splits:
    pixels = torch.cat([splits.train.pixels[:count], splits.exam.pixels[count:]])
    return replace(splits, exam=changed(splits.exam, pixels))


def two_labels(splits: Splits) -> Splits:
    pixels, labels = splits.train.pixels, splits.train.labels
    again = torch.cat([pixels, pixels[:5]]), torch.cat([labels, 1 - labels[:5]])
    return replace(splits, train=changed(splits.train, *again))


@pytest.mark.parametrize(
    ("spoil", "check", "level", "words"),
    [
        (shuffled, "labels fit", "warning", "the labels look shuffled (test and exam)"),
        (all_the_same, "values", "error", "every pixel is 7"),
        (divided_twice, "values", "warning", "divided by 255 before"),
        (inverted_exam, "values", "warning", "the splits differ in brightness"),
        (no_dogs_to_learn, "labels", "error", "no image to train on of dog"),
        (no_dogs_in_the_exam, "labels", "warning", "none of dog in exam"),
        (few_dogs, "balance", "warning", "10 (dog) to 400 (cat)"),
        (a_blank_image, "constant images", "warning", "1 of one grey alone"),
        (copies, "duplicates", "warning", "20 in train, 0 in test, 0 in exam"),
        (a_leak, "leaks", "warning", "2 in train and exam"),
        (lambda splits: a_leak(splits, 50), "leaks", "error", "50 in train and exam"),
        (two_labels, "contradictions", "warning", "5 images are there with two labels"),
        (lambda splits: replace(splits, exam=pets(20, seed=2)), "images", "warning", "so small an exam"),
        (lambda splits: replace(splits, test=pets(1, seed=2)), "images", "error", "these are too few"),
        (lambda splits: replace(splits, unreadable={"x.png": "damaged"}), "files", "warning", "x.png (damaged)"),
        (
            lambda splits: replace(splits, unreadable={f"{n}.png": "damaged" for n in range(200)}),
            "files",
            "error",
            "200 could not be read",
        ),
        (
            lambda splits: replace(splits, extra=Extra(pets(4, seed=3), Path("new"), {"of the exam": 3})),
            "extra images",
            "warning",
            "4 of new joined the training split; 3 dropped: of the exam",
        ),
    ],
)
def test_what_is_wrong_is_found(spoil: Callable[[Splits], Splits], check: str, level: str, words: str) -> None:
    finding = found(spoil(sound()), check)
    assert finding.level == level
    assert words in finding.words
    assert bool(complaints([finding])) == (level == "error")


def test_shuffled_labels_of_mnist_are_found(splits: Splits) -> None:
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(0))
    nonsense = replace(splits, train=replace(splits.train, labels=splits.train.labels[order]))
    assert found(nonsense, "labels fit").level == "warning"


def test_labels_are_judged_class_by_class_so_that_a_large_class_does_not_make_up_for_the_others() -> None:
    labels = (torch.arange(800) % 10 == 0).long()  # one dog in ten, wherever the light lies
    splits = replace(sound(), train=pets(800, seed=0, labels=labels), test=pets(200, seed=1, labels=labels[:200]))
    assert validation.findings(splits)[-1].level == "warning"
