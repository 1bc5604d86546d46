"""What the data look like before anything learns from them: findings, each fine, a warning or an error. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import torch

from mnist_pipeline.data import Examples, Splits
from mnist_pipeline.datasets import KEPT_FOR_EXAM

Level = Literal["ok", "warning", "error"]

# What is warned of, and what is an error
SMALL_EXAM = 100  # images, with fewer of which two models can hardly be told apart
IMBALANCE = 10  # times as many images of the largest class as of the smallest
DUPLICATES = 0.01  # share of a split that is there twice
LEAK, LEAK_ERROR = 0.005, 0.1  # share of test or exam that is in another split as well
CONTRADICTIONS = 0.001  # share of the images that are there with two labels
CONSTANT_ERROR = 0.5  # share of images of one grey alone
UNREADABLE_ERROR = 0.05  # share of files
BRIGHTNESS = 0.1  # difference of the mean of two splits, of 1
SAMPLE = 5000  # images of a split in which labels are held against images: more would not change what is seen


class DataError(ValueError):
    """Data from which nothing should be learnt."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Level
    words: str


def findings(splits: Splits) -> list[Finding]:
    """Look at the three splits: counts, values, labels, balance, duplicates, and whether labels fit their images."""
    return [
        _counts(splits),
        *_reading(splits),
        _values(splits),
        *_classes(splits),
        _constant(splits),
        *_copies(splits),
        _labels_fit(splits),
    ]


def complaints(found: Iterable[Finding]) -> str:
    """Say in one line what is wrong; nothing, where there is no error."""
    return "; ".join(f"{each.check}: {each.words}" for each in found if each.level == "error")


def _counts(splits: Splits) -> Finding:
    height, width = splits.schema.height, splits.schema.width
    words = (
        f"{len(splits.train):,} to train on, {len(splits.test):,} to test, {len(splits.exam):,} in the exam, "
        f"{height}×{width} pixels"
    )
    if len(splits.test) < 2:
        return Finding("images", "error", f"{words}: these are too few")
    if len(splits.exam) < SMALL_EXAM:
        return Finding("images", "warning", f"{words}: so small an exam can hardly tell two models apart")
    return Finding("images", "ok", words)


def _reading(splits: Splits) -> Iterator[Finding]:
    """What was left out while the images were read."""
    if count := len(splits.unreadable):
        share = count / (count + len(splits.train) + len(splits.test) + len(splits.exam))
        names = ", ".join(f"{name} ({why})" for name, why in list(splits.unreadable.items())[:3])
        level: Level = "error" if share > UNREADABLE_ERROR else "warning"
        yield Finding("files", level, f"{count:,} could not be read, and are left out: {names}{' …' * (count > 3)}")
    if splits.extra:
        dropped = splits.extra.dropped
        words = f"{len(splits.extra.examples):,} of {splits.extra.folder.name} joined the training split"
        words += "".join(f"; {count:,} dropped: {why}" for why, count in dropped.items())
        harmless = dropped.keys() <= {"there already", KEPT_FOR_EXAM} and len(splits.extra.examples)
        yield Finding("extra images", "ok" if harmless else "warning", words)


def _values(splits: Splits) -> Finding:
    low, high = int(splits.train.pixels.min()), int(splits.train.pixels.max())
    means = {name: _mean(part) for name, part in _named(splits)}
    words = f"{low} to {high}, of 255; mean " + ", ".join(f"{mean:.3f} ({name})" for name, mean in means.items())
    if low == high:
        return Finding("values", "error", f"every pixel is {low}: there is nothing to learn")
    if high <= 1:
        return Finding("values", "warning", f"{words}: it looks as if pixels had been divided by 255 before")
    if max(means.values()) - min(means.values()) > BRIGHTNESS:
        return Finding("values", "warning", f"{words}: the splits differ in brightness")
    return Finding("values", "ok", words)


def _classes(splits: Splits) -> Iterator[Finding]:
    names = splits.schema.classes
    counts = {name: torch.bincount(part.labels, minlength=len(names)) for name, part in _named(splits)}
    train = counts["train"]
    missing = {part: [names[label] for label in (count == 0).nonzero()] for part, count in counts.items()}
    if missing["train"]:
        yield Finding("labels", "error", f"no image to train on of {', '.join(missing['train'])}")
    elif missing["test"] or missing["exam"]:
        words = "; ".join(f"none of {', '.join(which)} in {part}" for part, which in missing.items() if which)
        yield Finding("labels", "warning", f"{words}: nobody will see how well they are recognised")
    else:
        yield Finding("labels", "ok", f"{len(names)} classes, each in all three splits")
    smallest, largest = int(train.argmin()), int(train.argmax())
    words = (
        f"{train[smallest]:,} ({names[smallest]}) to {train[largest]:,} ({names[largest]}) images to train on a class"
    )
    unbalanced = train[largest] > IMBALANCE * train[smallest]
    yield Finding("balance", "warning" if unbalanced else "ok", words)


def _constant(splits: Splits) -> Finding:
    flat = [part.pixels.flatten(1).numpy() for _, part in _named(splits)]
    count, total = sum(int((rows.min(1) == rows.max(1)).sum()) for rows in flat), sum(map(len, flat))
    level: Level = "error" if count > CONSTANT_ERROR * total else "warning" if count else "ok"
    return Finding("constant images", level, f"{count:,} of one grey alone")


def _copies(splits: Splits) -> Iterator[Finding]:
    """Images that are there twice, pixel by pixel: in one split, in two, or under two labels."""
    rows_of = {name: _rows(part) for name, part in _named(splits)}
    sets = {name: set(rows) for name, rows in rows_of.items()}
    twice = {name: len(rows) - len(sets[name]) for name, rows in rows_of.items()}
    many = any(count > DUPLICATES * len(rows_of[name]) for name, count in twice.items())
    words = ", ".join(f"{count:,} in {name}" for name, count in twice.items())
    yield Finding("duplicates", "warning" if many else "ok", words)

    level: Level = "ok"
    shared = {pair: len(sets[pair[0]] & sets[pair[1]]) for pair in combinations(sets, 2)}
    for (_, other), count in shared.items():
        share = count / len(sets[other])
        if share > LEAK_ERROR:
            level = "error"
        elif share > LEAK and level == "ok":
            level = "warning"
    words = ", ".join(f"{count:,} in {one} and {other}" for (one, other), count in shared.items())
    if level != "ok":
        words += ": what is learnt cannot be tested with, leave it in one of them"
    yield Finding("leaks", level, words)

    if any(twice.values()) or any(shared.values()):
        labels: dict[bytes, set[int]] = {}
        for name, part in _named(splits):
            for row, label in zip(rows_of[name], part.labels.tolist(), strict=True):
                labels.setdefault(row, set()).add(label)
        count, total = sum(len(each) > 1 for each in labels.values()), len(labels)
    else:
        count, total = 0, sum(map(len, sets.values()))
    level = "warning" if count > CONTRADICTIONS * total else "ok"
    yield Finding("contradictions", level, f"{count:,} images are there with two labels")


def _rows(part: Examples) -> list[bytes]:
    rows = part.pixels.flatten(1).contiguous().numpy()
    return list(rows.view(f"V{rows.shape[1]}").ravel().tolist())


def _labels_fit(splits: Splits) -> Finding:
    """Shuffled labels, cheaply: the nearest of the classes' mean images, no better than guessing on other images.

    The share that is right is the mean over the classes, so that a large class does not make up for the others.
    """
    images, labels = _sample(splits.train)
    classes = len(splits.schema.classes)
    centroids = torch.zeros(classes, images.shape[1]).index_add_(0, labels, images)
    centroids /= torch.bincount(labels, minlength=classes).clamp_min(1).unsqueeze(1)
    right, no_better, guess = {}, [], 1 / classes
    for name, part in (("test", splits.test), ("exam", splits.exam)):
        images, labels = _sample(part)
        nearest = (images @ centroids.T - centroids.square().sum(1) / 2).argmax(dim=1)
        counts = torch.bincount(labels, minlength=classes)
        hits = torch.bincount(labels[nearest == labels], minlength=classes)
        there = counts > 0
        right[name] = float((hits[there] / counts[there]).mean())
        chance = float((guess * (1 - guess) / counts[there]).sum().sqrt() / there.sum())
        if right[name] < guess + 3 * chance:
            no_better.append(name)
    words = ", ".join(f"{share:.0%} of {name}" for name, share in right.items())
    words = f"the nearest class mean is right for {words}; guessing, for {guess:.0%}"
    if no_better:
        return Finding("labels fit", "warning", f"{words}: the labels look shuffled ({' and '.join(no_better)})")
    return Finding("labels fit", "ok", words)


def _sample(part: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    """Take images (N, H × W) and their labels from all over `part`."""
    stride = -(-len(part) // SAMPLE)
    return part.images[::stride].flatten(1), part.labels[::stride]


def _named(splits: Splits) -> Iterator[tuple[str, Examples]]:
    yield from {"train": splits.train, "test": splits.test, "exam": splits.exam}.items()


def _mean(part: Examples) -> float:
    return float(np.mean(part.pixels.numpy(), dtype=np.float32)) / 255
