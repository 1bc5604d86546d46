"""The named datasets: verified files → uint8 images → splits → normalised tensors."""

import gzip
import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.request import urlopen

import numpy as np
import torch
from filelock import FileLock

from mnist_pipeline.config import DIGITS, DataSource, Schema

# scikit-learn and torchvision are imported where they are used: whoever only predicts is spared their 300 MB.
if TYPE_CHECKING:
    from torchvision.datasets import MNIST

TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
BUNDLED = Path(__file__).parent / "mnist"
TIMEOUT = 20  # seconds that a mirror may stay silent
PATIENCE = 300  # seconds that it may take for a file
LARGEST = 100 * 2**20  # bytes; the largest file has 25 million

# Of the unpacked files: torchvision knows only the MD5 of the packed ones.
UNPACKED_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DownloadError(OSError):
    """No mirror gave the file that was asked for."""


@dataclass(frozen=True)
class Examples:
    """Labelled images; `sha256` names their raw pixels and labels, wherever they came from."""

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
    """Labelled images that joined the training split, and what of them did not."""

    examples: Examples
    folder: Path
    dropped: Mapping[str, int] = field(default_factory=dict)  # why → how many


@dataclass(frozen=True)
class Splits:
    """Three sets, three uses: learn on `train`, report `test`, and let only the promotion gate look at `exam`."""

    train: Examples
    test: Examples
    exam: Examples
    source_sha256: str  # of the images that train and test were cut from
    schema: Schema = Schema()
    extra: Extra | None = None  # part of `train`
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it

    def __str__(self) -> str:
        words = f"{len(self.train):,} images ({self.train.sha256[:8]})"
        return words + (f", {len(self.extra.examples):,} of them from {self.extra.folder.name}" if self.extra else "")


def download(source: DataSource) -> Path:
    """Put the four files, verified packed and unpacked, where torchvision reads them; return their folder.

    A dataset that is a folder is there already, and left as it is.
    Files that are whole already are left alone, all others are fetched: from `source.mirror`, from the package (MNIST),
    then from torchvision's own mirrors. A file appears under its name only once it is whole.

    Raises `DownloadError` where no mirror has the file.
    """
    if not source.is_named:
        return source.folder
    dataset = _torchvision(source.dataset)
    folder: Path = source.folder / dataset.__name__ / "raw"
    bundled = [BUNDLED.as_uri()] if source.dataset == "mnist" else []
    mirrors = [*filter(None, [source.mirror]), *bundled, *dataset.mirrors]
    published = UNPACKED_SHA256 if source.dataset == "mnist" else {}
    damaged = [(name, md5) for name, md5 in dataset.resources if not _is_whole(folder / name, md5, published)]
    if damaged:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for name, md5 in damaged:
                _fetch(folder / name, md5, mirrors)
    return folder


def load(dataset: str, folder: Path) -> tuple[Examples, Examples]:
    """Read the official training and test images, uint8, through torchvision from below the `folder` of `download`."""
    root = folder.parents[1]
    official = [_torchvision(dataset)(root, train=train) for train in (True, False)]
    training, exam = (examples(part.data, part.targets) for part in official)
    return training, exam


def class_names(dataset: str) -> tuple[str, ...]:
    """Name the classes of a dataset of torchvision's."""
    return DIGITS if dataset == "mnist" else tuple(_torchvision(dataset).classes)


def examples(images: torch.Tensor, labels: torch.Tensor, *, classes: int = len(DIGITS)) -> Examples:
    """Check uint8 `images` (N, H, W) and their int64 `labels` (N,), and name them by their SHA-256."""
    if images.dtype != torch.uint8 or images.ndim != 3:
        raise ValueError(f"images must be uint8 (N, height, width), not {images.dtype} {tuple(images.shape)}")
    if labels.shape != (len(images),):
        raise ValueError(f"{len(images):,} images need as many labels, not {tuple(labels.shape)}")
    if len(labels) == 0:
        raise ValueError("there are no images")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}, not in {labels.min()} to {labels.max()}")
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    for values in (images, labels):
        digest.update(values.contiguous().numpy().data)
    return Examples(images, labels, digest.hexdigest())


def split(training: Examples, exam: Examples, *, schema: Schema = Schema()) -> Splits:
    """Cut the tutorial's 20 % test part from `training` (unstratified, random state 0)."""
    from sklearn.model_selection import train_test_split

    rows_of = train_test_split(np.arange(len(training)), test_size=0.2, random_state=0)
    train, test = (
        examples(training.pixels[rows], training.labels[rows], classes=len(schema.classes)) for rows in rows_of
    )
    return Splits(train, test, exam, training.sha256, schema)


def hold_out(part: Examples) -> tuple[Examples, Examples]:
    """Cut a validation fifth from `part`, to select by: what remains, and the fifth."""
    from sklearn.model_selection import train_test_split

    rows_of = train_test_split(np.arange(len(part)), test_size=0.2, random_state=0)
    remaining, held_out = (Examples(part.pixels[rows], part.labels[rows], part.sha256) for rows in rows_of)
    return remaining, held_out


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 pixels to float32 in [0, 1]."""
    return pixels.to(torch.float32).div_(255)  # in place: 150 MB less for the training images


def import_readers() -> None:
    """Import ahead what reading, splitting and scoring will need, where a start has the time for it."""
    for module in ("sklearn.metrics", "sklearn.model_selection", "torchvision.datasets"):
        import_module(module)


def _torchvision(dataset: str) -> "type[MNIST]":
    from torchvision import datasets

    found: type[MNIST] = getattr(datasets, TORCHVISION[dataset])
    return found


def _is_whole(packed: Path, md5: str, published: dict[str, str]) -> bool:
    from torchvision.datasets.utils import check_integrity

    unpacked = packed.with_suffix("")
    if not (unpacked.is_file() and check_integrity(packed, md5)):
        return False
    expected = published.get(unpacked.name) or hashlib.sha256(gzip.decompress(packed.read_bytes())).hexdigest()
    return hashlib.sha256(unpacked.read_bytes()).hexdigest() == expected


def _copy(response: BufferedReader, file: IO[bytes]) -> None:
    """Copy what a mirror sends, unless it takes for ever or has no end."""
    deadline = time.monotonic() + PATIENCE
    while part := response.read1(2**16):
        file.write(part)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not whole after {PATIENCE} seconds")
        if file.tell() > LARGEST:
            raise OSError(f"more than {LARGEST:,} bytes")


def _fetch(packed: Path, md5: str, mirrors: list[str]) -> None:
    """Fetch one file from the first mirror that has it, unpack it beside, then put both in place."""
    from torchvision.datasets.utils import calculate_md5

    partial = packed.parent / ".partial"  # what an interrupted run left in it is thrown away
    download, unpacked = partial / packed.name, partial / packed.with_suffix("").name
    tried = []
    for mirror in mirrors:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        url = f"{mirror.rstrip('/')}/{packed.name}"
        try:
            # Not torchvision's download_url: it has no time-out, and fails on file://.
            with urlopen(url, timeout=TIMEOUT) as response, download.open("wb") as file:
                _copy(response, file)
        except (OSError, HTTPException) as error:
            tried.append(f"{url} failed ({error})")
            continue
        if (found := calculate_md5(download)) != md5:
            tried.append(f"{url} gave {download.stat().st_size:,} bytes with MD5 {found}")
            continue
        unpacked.write_bytes(gzip.decompress(download.read_bytes()))
        unpacked.replace(packed.with_suffix(""))
        download.replace(packed)
        partial.rmdir()
        return
    shutil.rmtree(partial)
    raise DownloadError(
        f"{packed.name} (MD5 {md5}) could not be fetched: {'; '.join(tried)}. "
        f"Check the network, name a mirror with --mirror URL, or put the file into {packed.parent}"
    )
