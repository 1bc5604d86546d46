"""Sound data pass without a warning; each thing that can be wrong with them is found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.splits import Examples, Extra, Splits, make_examples
from mnist_pipeline.data.validation import Finding, errors, findings

PETS = Schema(("cat", "dog"), 8, 8, "resized")


def examples(pixels: torch.Tensor, labels: torch.Tensor) -> Examples:
    return make_examples(LabelledImages(pixels.numpy(), labels.numpy()))


def pets(count: int, *, seed: int, labels: torch.Tensor | None = None) -> Examples:
    """Return cats, which are bright on the left, and dogs, bright on the right."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 100, (count, 8, 8), generator=generator)
    kinds = torch.arange(count) % 2
    for image, kind in zip(pixels, kinds, strict=True):
        image[:, :4] += 100 * (1 - kind)
        image[:, 4:] += 100 * kind
    return examples(pixels.to(torch.uint8), kinds if labels is None else labels)


def sound() -> Splits:
    return Splits(pets(800, seed=0), pets(200, seed=1), pets(200, seed=2), schema=PETS)


def found(splits: Splits, check: str) -> Finding:
    (finding,) = (each for each in findings(splits) if each.check == check)
    return finding


def changed(part: Examples, pixels: torch.Tensor | None = None, labels: torch.Tensor | None = None) -> Examples:
    return examples(part.pixels if pixels is None else pixels, part.labels if labels is None else labels)


def test_mnist_passes_without_a_warning(splits: Splits) -> None:
    assert {each.level for each in findings(splits)} == {"ok"}


def test_other_sound_data_pass_without_a_warning() -> None:
    assert [each for each in findings(sound()) if each.level != "ok"] == []
    assert errors(findings(sound())) == ""


def shuffled(splits: Splits) -> Splits:
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(0))
    return replace(splits, train=changed(splits.train, labels=splits.train.labels[order]))


def all_the_same(splits: Splits) -> Splits:
    return replace(splits, train=changed(splits.train, torch.full_like(splits.train.pixels, 7)))


def divided_twice(splits: Splits) -> Splits:
    return replace(splits, train=changed(splits.train, splits.train.pixels // 128))


def inverted_holdout(splits: Splits) -> Splits:
    return replace(splits, holdout=changed(splits.holdout, 255 - splits.holdout.pixels))


def no_dogs_to_learn(splits: Splits) -> Splits:
    return replace(splits, train=changed(splits.train, labels=torch.zeros_like(splits.train.labels)))


def no_dogs_in_the_holdout(splits: Splits) -> Splits:
    return replace(splits, holdout=changed(splits.holdout, labels=torch.zeros_like(splits.holdout.labels)))


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
    pixels = torch.cat([splits.train.pixels[:count], splits.holdout.pixels[count:]])
    return replace(splits, holdout=changed(splits.holdout, pixels))


def two_labels(splits: Splits) -> Splits:
    pixels, labels = splits.train.pixels, splits.train.labels
    again = torch.cat([pixels, pixels[:5]]), torch.cat([labels, 1 - labels[:5]])
    return replace(splits, train=changed(splits.train, *again))


def cats_alone_in_the_holdout(splits: Splits) -> Splits:
    cats = splits.holdout.labels == 0
    return replace(splits, holdout=changed(splits.holdout, splits.holdout.pixels[cats], splits.holdout.labels[cats]))


def colours_of_their_own(splits: Splits) -> Splits:
    grey = torch.randint(0, 256, splits.train.pixels.shape, generator=torch.Generator().manual_seed(0))
    colours = splits.train.labels.unsqueeze(1).expand(-1, 2) + torch.rand(len(splits.train), 2) / 10
    return replace(splits, train=replace(changed(splits.train, grey.to(torch.uint8)), colours=colours.numpy()))


@pytest.mark.parametrize(
    ("spoil", "check", "level", "message"),
    [
        (shuffled, "labels fit", "warning", "the labels look shuffled"),
        (cats_alone_in_the_holdout, "labels fit", "ok", "nearest training images"),
        (all_the_same, "values", "error", "every pixel is 7"),
        (divided_twice, "values", "warning", "divided by 255 already"),
        (inverted_holdout, "values", "warning", "the splits differ in brightness"),
        (no_dogs_to_learn, "labels", "error", "no image to train on of dog ("),
        (no_dogs_in_the_holdout, "labels", "warning", "none of dog in holdout"),
        (few_dogs, "balance", "warning", "10 (dog) to 400 (cat) images to train on a class; --class-weights balanced"),
        (colours_of_their_own, "colour", "warning", "the network sees grey only"),
        (a_blank_image, "constant images", "warning", "1 image of a single grey"),
        (copies, "duplicates", "warning", "20 in train, 0 in test, 0 in holdout"),
        (a_leak, "leaks", "warning", "2 in train and holdout"),
        (lambda splits: a_leak(splits, 50), "leaks", "error", "50 in train and holdout"),
        (two_labels, "contradictions", "warning", "5 images with two labels"),
        (lambda splits: replace(splits, holdout=pets(20, seed=2)), "images", "warning", "so small a holdout"),
        (lambda splits: replace(splits, test=pets(1, seed=2)), "images", "error", "too few"),
        (lambda splits: replace(splits, holdout=pets(0, seed=2)), "images", "error", "0 in the holdout"),
        (lambda splits: replace(splits, unreadable={"x.png": "damaged"}), "files", "warning", "x.png (damaged)"),
        (lambda splits: replace(splits, left_out={".gif files": 90}), "left out", "warning", ".gif files: 90"),
        (
            lambda splits: replace(splits, unreadable={f"{n}.png": "damaged" for n in range(200)}),
            "files",
            "error",
            "200 could not be read",
        ),
        (
            lambda splits: replace(splits, extra=Extra(pets(4, seed=3), Path("new"), {"in the holdout": 3})),
            "extra images",
            "warning",
            "4 of new joined the training split; 3 dropped: in the holdout",
        ),
    ],
)
def test_whatever_is_wrong_with_the_data_is_found(
    spoil: Callable[[Splits], Splits], check: str, level: str, message: str
) -> None:
    finding = found(spoil(sound()), check)
    assert finding.level == level
    assert message in finding.message
    assert bool(errors([finding])) == (level == "error")


def test_shuffled_labels_of_mnist_are_found(splits: Splits) -> None:
    assert found(shuffled(splits), "labels fit").level == "warning"


def test_shuffled_labels_are_found_although_most_images_are_of_one_class() -> None:
    labels = (torch.arange(800) % 10 == 0).long()  # one dog in ten, wherever it is bright
    splits = replace(sound(), train=pets(800, seed=0, labels=labels), test=pets(200, seed=1, labels=labels[:200]))
    assert found(splits, "labels fit").level == "warning"


def test_labels_that_fit_are_not_suspected_although_there_are_few_images_of_a_class() -> None:
    rows = torch.cat([torch.arange(0, 200, 2), torch.tensor([1, 3, 5])])  # three dogs
    few = [changed(part, part.pixels[rows], part.labels[rows]) for part in (pets(200, seed=1), pets(200, seed=2))]
    assert found(replace(sound(), test=few[0], holdout=few[1]), "labels fit").level == "ok"
    assert found(replace(sound(), test=pets(2, seed=1), holdout=pets(2, seed=2)), "labels fit").level == "ok"


def test_labels_of_images_that_tell_nothing_are_not_suspected_while_there_are_few() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = (torch.randint(0, 256, (count, 8, 8), generator=generator, dtype=torch.uint8) for count in (40, 10, 10))
    train, test, holdout = (examples(pixels, torch.arange(len(pixels)) % 2) for pixels in noise)
    assert found(Splits(train, test, holdout, schema=PETS), "labels fit").level == "ok"


def test_colours_that_tell_no_more_than_grey_are_not_suspected() -> None:
    splits = sound()
    colours = torch.rand(len(splits.train), 2).numpy()
    assert found(replace(splits, train=replace(splits.train, colours=colours)), "colour").level == "ok"


def test_the_shuffled_labels_of_one_split_alone_are_found() -> None:
    test = pets(200, seed=1, labels=torch.randperm(200, generator=torch.Generator().manual_seed(0)) % 2)
    finding = found(replace(sound(), test=test), "labels fit")
    assert finding.level == "warning"
    assert "no more than by chance in test;" in finding.message
