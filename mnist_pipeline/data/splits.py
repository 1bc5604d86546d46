"""From raw images to the three sets: cut, checked and hashed here, and nowhere else."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mnist_pipeline.data import folders, mnist
from mnist_pipeline.data.preprocessing import normalize
from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.data.schema import DIGITS, Schema
from mnist_pipeline.data.source import DataSource

HOLDOUT_SHARE = 0.15  # of the images, if the dataset has no holdout of its own: MNIST's is a seventh
NEAR_DUPLICATE = 5 / 255  # root mean square difference of two normalised images that are the same: JPEG makes 1 to 4
KEPT_FOR_HOLDOUT = "kept for the holdout, where their content places them"


@dataclass(frozen=True)
class Examples:
    """Labelled images; `sha256` identifies their raw pixels and labels, wherever they came from."""

    pixels: torch.Tensor  # (N, H, W), uint8 as stored
    labels: torch.Tensor  # (N,), int64
    sha256: str

    @cached_property
    def images(self) -> torch.Tensor:
        """The images normalised: (N, H, W), float32 in [0, 1]."""
        return normalize(self.pixels)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Extra:
    """Labelled images that joined the training split, and how many of them did not."""

    examples: Examples
    folder: Path
    dropped: Mapping[str, int] = field(default_factory=dict)  # why → how many


@dataclass(frozen=True)
class Splits:
    """Three sets, each with one use: learn on `train`, report on `test`, and let only the gate look at `holdout`."""

    train: Examples
    test: Examples
    holdout: Examples
    source: DataSource = DataSource()
    schema: Schema = Schema()
    extra: Extra | None = None  # part of `train`
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it

    @property
    def sha256(self) -> str:
        """The hash of all three sets."""
        return hashlib.sha256("".join(part.sha256 for part in self.named().values()).encode()).hexdigest()

    def named(self) -> dict[str, Examples]:
        return {"train": self.train, "test": self.test, "holdout": self.holdout}

    def __str__(self) -> str:
        description = f"{len(self.train):,} images ({self.train.sha256[:8]})"
        if not self.extra:
            return description
        return f"{description}, {len(self.extra.examples):,} of them from {self.extra.folder.name}"


def load_splits(source: DataSource, folder: Path) -> Splits:
    """Read `source` from `folder`, and cut it into train, test and holdout; `source.extra` joins train.

    A part called test (of IDX files, t10k) is the holdout, as MNIST's own is. Without one, an image's content decides
    whether it belongs to the holdout, so that it stays there as the data grow. Raises `ValueError` if the data cannot
    be used.
    """
    if source.is_named:
        schema, parts = mnist.read(source.dataset, folder)
    else:
        schema, parts = folders.read(folder, image_size=source.image_size)
    cuts_holdout = len(parts) == 1
    development, holdout = _cut_holdout(*parts) if cuts_holdout else parts
    train, test = _cut_fifth(development)
    classes, extra = len(schema.classes), None
    if source.extra:
        more = folders.read_more(source.extra, schema)
        selected, dropped = _select_extra(more, train, [test, holdout], cuts_holdout=cuts_holdout)
        extra = Extra(make_examples(selected, classes=classes), source.extra, dropped)
        train += selected
    return Splits(
        make_examples(train, classes=classes),
        make_examples(test, classes=classes),
        make_examples(holdout, classes=classes),
        source,
        schema,
        extra,
        {file: problem for part in parts for file, problem in part.unreadable.items()},
    )


def make_examples(raw: LabelledImages, *, classes: int = len(DIGITS)) -> Examples:
    """Return `raw` as tensors, with its SHA-256. Raises `ValueError` if a shape, a type or a label is wrong."""
    pixels, labels = raw.pixels, raw.labels
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise ValueError(f"images must be uint8 (N, height, width), not {pixels.dtype} {pixels.shape}")
    if labels.shape != (len(pixels),):
        raise ValueError(f"{len(pixels):,} images need as many labels, not {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must be in 0 to {classes - 1}, not in {labels.min()} to {labels.max()}")
    digest = hashlib.sha256(repr(pixels.shape).encode())
    for values in (pixels, labels):
        digest.update(np.ascontiguousarray(values).data)
    return Examples(torch.from_numpy(pixels), torch.from_numpy(labels), digest.hexdigest())


def validation_split(part: Examples, *, classes: int) -> tuple[Examples, Examples]:
    """Cut a validation fifth from `part`, to select by: return what remains, and the fifth."""
    remaining, validation = _cut_fifth(LabelledImages(part.pixels.numpy(), part.labels.numpy()))
    return make_examples(remaining, classes=classes), make_examples(validation, classes=classes)


def belongs_to_holdout(pixels: np.ndarray) -> np.ndarray:
    """Return, for each of `pixels` (N, H, W), whether its content places it in the holdout: (N,), bool."""
    hashes = (hashlib.sha256(image.tobytes()).digest()[:8] for image in pixels)
    return np.array([int.from_bytes(start) < HOLDOUT_SHARE * 2**64 for start in hashes], bool)


def _cut_fifth(raw: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Cut off a fifth as the tutorial does: unstratified, random state 0."""
    from sklearn.model_selection import train_test_split  # 130 MB, which prediction is spared

    if len(raw) < 2:
        raise ValueError(f"there are too few images to split: {len(raw)}")
    rest, fifth = train_test_split(np.arange(len(raw)), test_size=0.2, random_state=0)
    return raw[rest], raw[fifth]


def _cut_holdout(raw: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    chosen = belongs_to_holdout(raw.pixels)
    if not chosen.any():
        raise ValueError(f"{len(chosen):,} images are too few: a holdout is cut from them, and none belongs to it")
    return raw[~chosen], raw[chosen]


def _select_extra(
    raw: LabelledImages, train: LabelledImages, unseen: Sequence[LabelledImages], *, cuts_holdout: bool
) -> tuple[LabelledImages, Counter[str]]:
    """Return the images of `raw` that may join `train`, and why the others may not.

    An image in one of the `unseen` sets, or nearly so, must not be learnt from. If the holdout is cut from the dataset,
    neither must one that its content would place there: it may be moved into the dataset later.
    """
    unseen_images = {image.tobytes() for part in unseen for image in part.pixels}
    known = {image.tobytes(): label for image, label in zip(train.pixels, train.labels.tolist(), strict=True)}
    near = _nearest(raw.pixels, [part.pixels for part in unseen]) <= NEAR_DUPLICATE
    for_holdout = belongs_to_holdout(raw.pixels) & cuts_holdout
    dropped = Counter({"unreadable": len(raw.unreadable)} if raw.unreadable else {})
    selected = []
    for row, (image, label) in enumerate(zip(raw.pixels, raw.labels.tolist(), strict=True)):
        key = image.tobytes()
        if key in unseen_images:
            dropped["in the test split or the holdout"] += 1
        elif for_holdout[row]:
            dropped[KEPT_FOR_HOLDOUT] += 1
        elif near[row]:
            dropped["nearly the same as an image of the test split or the holdout"] += 1
        elif key in known:
            dropped["already there" if known[key] == label else "already there with another label"] += 1
        else:
            known[key] = label
            selected.append(row)
    return raw[np.array(selected, int)], dropped


def _nearest(pixels: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Return the root mean square difference of each of `pixels` (N, H, W) to the nearest image of `others`: (N,)."""
    if not len(pixels):
        return np.empty(0)
    references = [normalize(torch.from_numpy(other)).flatten(1) for other in others]
    nearest = [
        torch.stack([torch.cdist(chunk.flatten(1), reference).amin(dim=1) for reference in references]).amin(dim=0)
        for chunk in normalize(torch.from_numpy(pixels)).split(256)
    ]
    distances: np.ndarray = torch.cat(nearest).numpy() / np.sqrt(pixels[0].size)
    return distances
