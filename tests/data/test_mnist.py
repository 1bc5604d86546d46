"""The named datasets are downloaded whole, verified, and read."""

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST, FashionMNIST

from mnist_pipeline.data import mnist
from mnist_pipeline.data.mnist import DownloadError
from mnist_pipeline.data.source import DataSource
from tests.data.files import idx, random_pixels

LABELS = "t10k-labels-idx1-ubyte"


def test_mnist_needs_no_network_and_torchvision_finds_its_files(source: DataSource, files: Path) -> None:
    assert sorted(file.name for file in files.glob("*ubyte*")) == sorted(
        name for packed, _ in MNIST.resources for name in (packed, packed.removesuffix(".gz"))
    )
    assert len(MNIST(source.folder)) == 60_000


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", [LABELS, f"{LABELS}.gz"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_or_missing_file_is_restored(
    source: DataSource, files: Path, name: str, damage: Callable[[Path], None]
) -> None:
    whole = (files / name).read_bytes()
    damage(files / name)
    mnist.download(source)
    assert (files / name).read_bytes() == whole


def test_intact_files_are_not_written_again(source: DataSource, files: Path) -> None:
    def written() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in files.glob("*ubyte*")}

    before = written()
    assert mnist.download(source) == files
    assert written() == before


def test_leftovers_of_an_interrupted_download_are_discarded(tmp_path: Path) -> None:
    partial = tmp_path / "MNIST" / "raw" / ".partial"
    partial.mkdir(parents=True)
    (partial / f"{LABELS}.gz").write_bytes(b"half")
    folder = mnist.download(DataSource(data_dir=tmp_path))
    assert not partial.exists()
    assert len((folder / LABELS).read_bytes()) == 10_008


def test_a_file_with_another_checksum_is_rejected_and_the_next_mirror_is_tried(files: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(mnist.BUNDLED, mirror)
    repacked = gzip.compress((files / LABELS).read_bytes())  # the right content, but not the published file
    (mirror / f"{LABELS}.gz").write_bytes(repacked)
    folder = mnist.download(DataSource(data_dir=tmp_path, mirror=mirror.as_uri()))
    assert (folder / LABELS).read_bytes() == (files / LABELS).read_bytes()
    assert (folder / f"{LABELS}.gz").read_bytes() != repacked


def test_a_mirror_that_does_not_exist_is_skipped(files: Path, tmp_path: Path) -> None:
    folder = mnist.download(DataSource(data_dir=tmp_path, mirror=(tmp_path / "nowhere").as_uri()))
    assert (folder / LABELS).read_bytes() == (files / LABELS).read_bytes()


def test_a_failed_download_names_the_file_what_each_mirror_returned_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FashionMNIST, "mirrors", [(tmp_path / "nowhere").as_uri()])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"<html>")
    with pytest.raises(DownloadError) as error:
        mnist.download(DataSource(dataset="fashion-mnist", data_dir=tmp_path / "data", mirror=f"{tmp_path.as_uri()}/"))
    returned = f"{tmp_path.as_uri()}/train-images-idx3-ubyte.gz returned 6 bytes with MD5"
    for part in (returned, "nowhere", "No such file", "name a mirror that has it"):
        assert part in str(error.value)
    assert not list(tmp_path.glob("data/**/*.gz"))


@pytest.mark.parametrize(
    ("limit", "value", "problem"),
    [("MAX_BYTES", 1000, "more than 1,000 bytes"), ("DOWNLOAD_TIMEOUT", -1, "not complete after -1 seconds")],
)
def test_a_download_that_is_too_large_or_too_slow_is_given_up(
    limit: str, value: int, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, limit, value)
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bytes(1001))
    with pytest.raises(DownloadError, match=problem):
        mnist.download(DataSource(dataset="fashion-mnist", data_dir=tmp_path / "data", mirror=tmp_path.as_uri()))


def test_another_named_dataset_is_verified_by_its_own_checksums_and_has_named_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = gzip.compress(idx(random_pixels(3, 28, 28))), gzip.compress(idx(np.arange(3, dtype=np.uint8)))
    packed = {name: images if "images" in name else labels for name, _ in FashionMNIST.resources}
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
    checksums = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(FashionMNIST, "resources", checksums)
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    source = DataSource(dataset="fashion-mnist", data_dir=tmp_path / "data", mirror=tmp_path.as_uri())
    folder = mnist.download(source)
    schema, parts = mnist.read("fashion-mnist", folder)
    assert schema.classes[:2] == ("T-shirt/top", "Trouser")
    assert [len(part) for part in parts] == [3, 3]

    for name in packed:
        (tmp_path / name).unlink()  # from now on nothing can be fetched
    assert mnist.download(source) == folder
    flip_a_bit(folder / f"{LABELS}.gz")
    with pytest.raises(DownloadError):
        mnist.download(source)
