"""From raw images to the three sets: cut, checked and hashed here, and nowhere else."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from warnings import catch_warnings

import numpy as np
import torch

from mnist_pipeline.config import FieldError, check
from mnist_pipeline.data import folders, mnist
from mnist_pipeline.data.corrections import Relabelled, relabel
from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.data.schema import DIGITS, Schema, normalize
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.text import printable

HOLDOUT_SHARE = 0.15  # of the images, if the dataset has no holdout of its own: MNIST's is a seventh
NEAR_DUPLICATE = 5 / 255  # root mean square difference of two normalised images that are the same: JPEG makes 1 to 4
KEPT_FOR_HOLDOUT = "kept for the holdout, where their content places them"


@dataclass(frozen=True)
class Examples:
    """Labelled images; `sha256` identifies their raw pixels and labels, wherever they came from."""

    pixels: torch.Tensor  # (N, H, W), uint8 as stored
    labels: torch.Tensor  # (N,), int64
    sha256: str
    names: np.ndarray | None = None  # (N,), str: of their files
    colours: np.ndarray | None = None  # (N, 2), of pictures: see `Reading.colour`

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

    def __str__(self) -> str:
        joined = f"{len(self.examples):,} of {self.folder.name} joined the training split"
        return joined + "".join(f"; {count:,} dropped: {why}" for why, count in self.dropped.items())


@dataclass(frozen=True)
class Splits:
    """Three sets, each with one use: learn on `train`, report on `test`, and let only the gate look at `holdout`."""

    train: Examples
    test: Examples
    holdout: Examples
    source: DataSource = DataSource()
    schema: Schema = Schema()
    extra: Extra | None = None  # part of `train`
    relabelled: Relabelled | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it
    left_out: Mapping[str, int] = field(default_factory=dict)  # what else → how many

    @property
    def sha256(self) -> str:
        """The hash of all three sets."""
        return hashlib.sha256("".join(part.sha256 for part in self.named().values()).encode()).hexdigest()

    def named(self) -> dict[str, Examples]:
        return {"train": self.train, "test": self.test, "holdout": self.holdout}

    def __str__(self) -> str:
        description = f"{len(self.train):,} images ({self.train.sha256[:8]})"
        if self.extra:
            description += f", {len(self.extra.examples):,} of them from {self.extra.folder.name}"
        return f"{description}; {self.relabelled}" if self.relabelled else description


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
    train, test = _cut(development, 0.2)  # as the tutorial does: unstratified, random state 0
    classes, extra, relabelled = len(schema.classes), None, None
    cuts = {"train": train, "test": test, "holdout": holdout}
    if source.extra:
        more = folders.read_more(source.extra, schema, folder)
        if not len(more):
            raise FieldError("extra", f"holds no image that can be read: {source.extra}")
        assert more.names is not None
        more = replace(more, names=np.strings.add(_extra_prefix(source.extra, parts), more.names))
        cuts["extra"], dropped = _select_extra(more, train, [test, holdout], cuts_holdout=cuts_holdout)
    if source.relabel:  # after the cuts, so that each other image stays where it was
        cuts, relabelled = relabel(source.relabel, cuts, schema.classes)
    if source.extra:
        extra = Extra(make_examples(cuts["extra"], classes=classes), source.extra, dropped)
        cuts["train"] += cuts["extra"]
    return Splits(
        make_examples(cuts["train"], classes=classes),
        make_examples(cuts["test"], classes=classes),
        make_examples(cuts["holdout"], classes=classes),
        source,
        schema,
        extra,
        relabelled,
        {file: problem for part in parts for file, problem in part.unreadable.items()},
        sum((Counter(part.left_out) for part in parts), Counter()),
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
    return Examples(torch.from_numpy(pixels), torch.from_numpy(labels), digest.hexdigest(), raw.names, raw.colours)


def _extra_prefix(folder: Path, parts: Sequence[LabelledImages]) -> str:
    """Return how the names of extra images begin: with so much of their folder's path as no name in `parts` does."""
    taken = {name.partition("/")[0] for part in parts if part.names is not None for name in part.names.tolist()}
    own = folder.absolute().parts[1:]
    depth = next((depth for depth in range(1, len(own)) if printable(own[-depth]) not in taken), len(own))
    return printable("/".join([*own[-depth:], ""]))


def validation_split(part: Examples, *, classes: int, share: float = 0.2) -> tuple[Examples, Examples]:
    """Cut a validation part from `part`, to select by: return what remains, and it.

    It has its `share` of each class, if each that occurs has two images and the part has room for one of each.
    """
    remaining, validation = _cut(LabelledImages(part.pixels.numpy(), part.labels.numpy()), share, stratify=True)
    return make_examples(remaining, classes=classes), make_examples(validation, classes=classes)


def development(splits: Splits, *, folds: int, seed: int) -> tuple[Examples, np.ndarray]:
    """Return train and test as one, and the fold of each image: (N,), from 0; the holdout is left alone.

    Each fold has about the same share of each class, and copies of an image are in one fold.
    """
    from sklearn.model_selection import StratifiedKFold

    pixels, labels = (
        torch.cat([getattr(splits.train, name), getattr(splits.test, name)]) for name in ("pixels", "labels")
    )
    names = np.concatenate([part.names for part in (splits.train, splits.test)])
    part = make_examples(
        LabelledImages(pixels.numpy(), labels.numpy(), names=names), classes=len(splits.schema.classes)
    )
    originals: dict[bytes, int] = {}
    original = np.array([originals.setdefault(image.tobytes(), row) for row, image in enumerate(part.pixels.numpy())])
    firsts, of_each = np.unique(original, return_inverse=True)
    check(folds <= len(firsts), "folds", folds, f"at most the {len(firsts):,} different images")
    fold = np.empty(len(firsts), np.int64)
    with catch_warnings(action="ignore"):  # of a class with fewer images than there are folds
        cuts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(firsts, part.labels.numpy()[firsts])
        for number, (_, rows) in enumerate(cuts):
            fold[rows] = number
    return part, fold[of_each]


def belongs_to_holdout(pixels: np.ndarray) -> np.ndarray:
    """Return, for each of `pixels` (N, H, W), whether its content places it in the holdout: (N,), bool."""
    hashes = (hashlib.sha256(image.tobytes()).digest()[:8] for image in pixels)
    return np.array([int.from_bytes(start) < HOLDOUT_SHARE * 2**64 for start in hashes], bool)


def _cut(raw: LabelledImages, share: float, *, stratify: bool = False) -> tuple[LabelledImages, LabelledImages]:
    """Cut a `share` off, always the same; if it can be and is wanted, the same share of each class."""
    from sklearn.model_selection import train_test_split  # 130 MB, which prediction is spared

    if len(raw) < 2:
        raise ValueError(f"there are too few images to split: {len(raw)}")
    counts = np.unique_counts(raw.labels).counts
    can_stratify = stratify and counts.min() >= 2 and len(raw) * min(share, 1 - share) >= len(counts)
    classes = raw.labels if can_stratify else None
    rest, part = train_test_split(np.arange(len(raw)), test_size=share, random_state=0, stratify=classes)
    return raw[rest], raw[part]


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
    dropped = +Counter({"unreadable": len(raw.unreadable), **raw.left_out})
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
