"""What is wrong with the data, before anything learns from them: findings, each ok, a warning or an error. Pure."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
import torch

from mnist_pipeline.data.schema import normalize
from mnist_pipeline.data.splits import KEPT_FOR_HOLDOUT, Examples, Splits
from mnist_pipeline.text import counted, listed, percent

Level = Literal["ok", "warning", "error"]

# What deserves a warning, and what is an error
SMALL_HOLDOUT = 100  # images, below which two models can hardly be told apart
IMBALANCE = 10  # times as many images of the largest class as of the smallest
DUPLICATES = 0.01  # share of a split that it holds twice
LEAK, LEAK_ERROR = 0.005, 0.1  # share of test or holdout that is in another split too
CONTRADICTIONS = 0.001  # share of the images that have two labels
CONSTANT_ERROR = 0.5  # share of images that are a single grey
UNREADABLE_ERROR = 0.05  # share of files
BRIGHTNESS = 0.1  # difference of the mean of two splits, of 1
SAMPLE = 1000  # images of a split whose labels are compared with the images: more would not change the finding
NEIGHBOURS = 5
PERMUTATIONS = 99
LEVEL, SIGMAS = 0.01, 3
FITTING = 0.1  # the least that labels fit: a tenth of the way from chance to certainty


class DataError(ValueError):
    """Data that must not be trained on."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    level: Level
    message: str


def findings(splits: Splits) -> list[Finding]:
    """Check the three splits: counts, values, labels, balance, duplicates, and whether labels fit their images."""
    found = [_counts(splits), *_reading(splits)]
    if found[0].level == "error":  # there is too little to be checked
        return found
    return [
        *found,
        _values(splits),
        *_classes(splits),
        _constant(splits),
        *_copies(splits),
        *labels_fit(splits),
    ]


def errors(found: Iterable[Finding]) -> str:
    """Return the errors in one line, or nothing if there are none."""
    return "; ".join(f"{each.check}: {each.message}" for each in found if each.level == "error")


def _counts(splits: Splits) -> Finding:
    height, width = splits.schema.height, splits.schema.width
    message = (
        f"{len(splits.train):,} to train on, {len(splits.test):,} to test, {len(splits.holdout):,} in the holdout, "
        f"{height}×{width} pixels"
    )
    if len(splits.test) < 2 or not len(splits.holdout):
        return Finding("images", "error", f"{message}: too few")
    if len(splits.holdout) < SMALL_HOLDOUT:
        return Finding("images", "warning", f"{message}: with so small a holdout two models can hardly be told apart")
    return Finding("images", "ok", message)


def _reading(splits: Splits) -> Iterator[Finding]:
    """Check what was left out while the images were read."""
    if count := len(splits.unreadable):
        share = count / (count + len(splits.train) + len(splits.test) + len(splits.holdout))
        names = listed((f"{name} ({why})" for name, why in splits.unreadable.items()), most=3)
        level: Level = "error" if share > UNREADABLE_ERROR else "warning"
        yield Finding("files", level, f"{count:,} could not be read and are left out: {names}")
    if splits.left_out:
        message = "; ".join(f"{what}: {count:,}" for what, count in splits.left_out.items())
        yield Finding("left out", "warning", message)
    if splits.relabelled:
        yield Finding("corrections", "ok", str(splits.relabelled))
    if splits.extra:
        dropped = splits.extra.dropped
        harmless = dropped.keys() <= {"already there", KEPT_FOR_HOLDOUT} and len(splits.extra.examples)
        yield Finding("extra images", "ok" if harmless else "warning", str(splits.extra))


def _values(splits: Splits) -> Finding:
    low, high = int(splits.train.pixels.min()), int(splits.train.pixels.max())
    means = {name: float(part.pixels.numpy().mean(dtype=np.float32)) / 255 for name, part in splits.named().items()}
    message = f"{low} to {high}, of 255; mean " + ", ".join(f"{mean:.3f} ({name})" for name, mean in means.items())
    if low == high:
        return Finding("values", "error", f"every pixel is {low}: there is nothing to learn")
    if high <= 1:
        return Finding("values", "warning", f"{message}: the pixels look as if they had been divided by 255 already")
    if max(means.values()) - min(means.values()) > BRIGHTNESS:
        return Finding("values", "warning", f"{message}: the splits differ in brightness")
    return Finding("values", "ok", message)


def _classes(splits: Splits) -> Iterator[Finding]:
    names = splits.schema.classes
    counts = {name: torch.bincount(part.labels, minlength=len(names)) for name, part in splits.named().items()}
    train = counts["train"]
    missing = {part: [names[label] for label in (count == 0).nonzero()] for part, count in counts.items()}
    if missing["train"]:
        where = (
            f"{name} ({int(counts['test'][label])} in test, {int(counts['holdout'][label])} in the holdout)"
            for label, name in enumerate(names)
            if not train[label]
        )
        yield Finding("labels", "error", f"there is no image to train on of {listed(where)}: add some of each")
    elif missing["test"] or missing["holdout"]:
        message = "; ".join(f"none of {listed(which)} in {part}" for part, which in missing.items() if which)
        yield Finding("labels", "warning", f"{message}: how well they are recognised will not be seen")
    else:
        yield Finding("labels", "ok", f"{len(names)} classes, each in all three splits")
    smallest, largest = int(train.argmin()), int(train.argmax())
    message = (
        f"{train[smallest]:,} ({names[smallest]}) to {train[largest]:,} ({names[largest]}) images to train on a class"
    )
    unbalanced = train[largest] > IMBALANCE * train[smallest] > 0
    remedy = "; --class-weights balanced gives each class the same weight" if unbalanced else ""
    yield Finding("balance", "warning" if unbalanced else "ok", message + remedy)


def _constant(splits: Splits) -> Finding:
    flat = [part.pixels.flatten(1).numpy() for part in splits.named().values()]
    count, total = sum(int((rows.min(1) == rows.max(1)).sum()) for rows in flat), sum(map(len, flat))
    level: Level = "error" if count > CONSTANT_ERROR * total else "warning" if count else "ok"
    return Finding("constant images", level, f"{counted(count, 'image')} of a single grey")


def _copies(splits: Splits) -> Iterator[Finding]:
    """Look for images that are the same, pixel by pixel: in one split, in two, or under two labels."""
    parts = splits.named()
    table = pd.concat(
        pd.DataFrame({"split": name, "image": _rows(part), "label": part.labels}) for name, part in parts.items()
    )
    unique = table.drop_duplicates(["split", "image"])
    twice = {name: len(part) - int((unique.split == name).sum()) for name, part in parts.items()}
    many = any(count > DUPLICATES * len(parts[name]) for name, count in twice.items())
    message = ", ".join(f"{count:,} in {name}" for name, count in twice.items())
    yield Finding("duplicates", "warning" if many else "ok", message)

    level: Level = "ok"
    shared = {}
    for one, other in combinations(parts, 2):
        shared[one, other] = int(unique[unique.split.isin([one, other])].image.duplicated().sum())
        share = shared[one, other] / (len(parts[other]) - twice[other])
        if share > LEAK_ERROR:
            level = "error"
        elif share > LEAK and level == "ok":
            level = "warning"
    message = ", ".join(f"{count:,} in {one} and {other}" for (one, other), count in shared.items())
    if level != "ok":
        message += ": a model must not be tested on what it learnt, keep each image in one of them"
    yield Finding("leaks", level, message)

    copies = table[table.image.duplicated(keep=False)]
    count = int((copies.groupby("image").label.nunique() > 1).sum())
    level = "warning" if count > CONTRADICTIONS * len(table) else "ok"
    yield Finding("contradictions", level, f"{counted(count, 'image')} with two labels")


def _rows(part: Examples) -> list[bytes]:
    rows = part.pixels.flatten(1).contiguous().numpy()
    return list(rows.view(f"V{rows.shape[1]}").ravel().tolist())


@dataclass(frozen=True)
class _Agreement:
    """How many of an image's nearest neighbours have its label: a share, as a mean over the classes."""

    share: float
    chance: float  # the same of permuted labels: mean
    deviation: float  # and standard deviation
    p_value: float  # how likely so high a share is by chance

    @property
    def excess(self) -> float:
        return self.share - self.chance


def labels_fit(splits: Splits) -> Iterator[Finding]:
    """Look for labels that have nothing to do with their images, and for classes that differ by colour alone.

    A permutation test of the labels of nearest neighbours (Henze, 1988, "A Multivariate Two-Sample Test Based on the
    Number of Nearest Neighbor Type Coincidences"). That labels fit no better than by chance does not yet accuse them:
    as many as a tenth of the way from chance to certainty must be ruled out, or half of how well another split's fit.
    """
    reference, labels = _sample(splits.train)
    found = {"train": _agreement(reference, labels)}
    for name, part in (("test", splits.test), ("holdout", splits.holdout)):
        found[name] = _agreement(*_sample(part), reference, labels)
    found = {name: each for name, each in found.items() if each.chance < 1}  # one class alone always fits
    shuffled = []
    for name, each in found.items():
        others = max((other.excess for other in found.values() if other is not each), default=0)
        expected = max(FITTING * (1 - each.chance), others / 2)
        if each.p_value > LEVEL and each.excess + SIGMAS * each.deviation < expected:
            shuffled.append(name)
    shares = ", ".join(
        f"{percent(each.share, 0)} in {name} (by chance {percent(each.chance, 0)})" for name, each in found.items()
    )
    message = f"of an image's {NEIGHBOURS} nearest training images, so many share its label: {shares}"
    if shuffled:
        doubt = "the labels look shuffled, or nothing in small grey images tells the classes apart"
        message += f": no more than by chance in {' and '.join(shuffled)}; {doubt}"
    yield Finding("labels fit", "warning" if shuffled else "ok", message)
    colours = splits.train.colours
    if colours is not None and colours.any():
        yield _colour(found["train"], _agreement(_every_few(torch.from_numpy(colours)), labels))


def _colour(grey: _Agreement, colour: _Agreement) -> Finding:
    """Compare how well the mean colours tell the classes apart with how well the grey images do."""
    shares = f"{percent(colour.share, 0)} have the same label, in grey {percent(grey.share, 0)}"
    message = f"of the {NEIGHBOURS} images nearest in mean colour {shares}"
    by_chance = SIGMAS * math.hypot(grey.deviation, colour.deviation)
    if colour.p_value <= LEVEL and colour.share > grey.share + by_chance:
        message += ": colour tells the classes apart, and the network sees grey only"
        return Finding("colour", "warning", message)
    return Finding("colour", "ok", message)


def _agreement(
    images: torch.Tensor,
    labels: torch.Tensor,
    reference: torch.Tensor | None = None,
    reference_labels: torch.Tensor | None = None,
) -> _Agreement:
    """Compare `labels` (N,) with those of the nearest `reference` images, by default of the other `images` (N, D)."""
    distances = torch.cdist(images, images if reference is None else reference)
    if reference is None:
        distances.fill_diagonal_(math.inf)
    nearest = distances.topk(min(NEIGHBOURS, max(1, distances.shape[1] - 1)), largest=False).indices
    counts = torch.bincount(labels)

    def share(order: torch.Tensor) -> float:
        own = labels[order]
        of_neighbours = (own if reference_labels is None else reference_labels)[nearest]
        hits = (of_neighbours == own.unsqueeze(1)).float().mean(dim=1)
        return float((torch.bincount(own, hits, minlength=len(counts)) / counts)[counts > 0].mean())

    generator = torch.Generator().manual_seed(0)
    permuted = np.array([share(torch.randperm(len(labels), generator=generator)) for _ in range(PERMUTATIONS)])
    found = share(torch.arange(len(labels)))
    p_value = (1 + int((permuted >= found).sum())) / (1 + PERMUTATIONS)
    return _Agreement(found, float(permuted.mean()), float(permuted.std()), p_value)


def _sample(part: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (N, H × W) and their labels from all over `part`."""
    return normalize(_every_few(part.pixels)).flatten(1), _every_few(part.labels)


def _every_few(values: torch.Tensor) -> torch.Tensor:
    return values[:: -(-len(values) // SAMPLE) or 1]
