"""The files are whole or told of; the splits are the reference's."""

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST, FashionMNIST

from mnist_pipeline import data
from mnist_pipeline.config import DataSource, Schema
from mnist_pipeline.data import DownloadError, Splits

LABELS = "t10k-labels-idx1-ubyte"


def test_mnist_needs_no_network(source: DataSource, files: Path) -> None:
    assert sorted(file.name for file in files.glob("*ubyte*")) == sorted(
        name for packed, _ in MNIST.resources for name in (packed, packed.removesuffix(".gz"))
    )
    assert len(MNIST(source.data_dir)) == 60_000  # torchvision finds them


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", [LABELS, f"{LABELS}.gz"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_file_is_fetched_again(
    source: DataSource, files: Path, name: str, damage: Callable[[Path], None]
) -> None:
    whole = (files / name).read_bytes()
    damage(files / name)
    data.download(source)
    assert (files / name).read_bytes() == whole


def test_whole_files_are_left_alone(source: DataSource, files: Path) -> None:
    def written() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in files.glob("*ubyte*")}

    before = written()
    assert data.download(source) == files
    assert written() == before


def test_what_an_interrupted_download_left_is_thrown_away(tmp_path: Path) -> None:
    partial = tmp_path / "MNIST" / "raw" / ".partial"
    partial.mkdir(parents=True)
    (partial / f"{LABELS}.gz").write_bytes(b"half")
    folder = data.download(DataSource(data_dir=tmp_path))
    assert not partial.exists()
    assert len((folder / LABELS).read_bytes()) == 10_008


def test_a_mirror_is_tried_before_the_package(files: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(data.BUNDLED, mirror)
    repacked = gzip.compress((files / LABELS).read_bytes())  # the right content, but not the published file
    (mirror / f"{LABELS}.gz").write_bytes(repacked)
    folder = data.download(DataSource(data_dir=tmp_path, mirror=mirror.as_uri()))
    assert (folder / LABELS).read_bytes() == (files / LABELS).read_bytes()
    assert (folder / f"{LABELS}.gz").read_bytes() != repacked


def test_a_mirror_that_is_not_there_is_passed_over(files: Path, tmp_path: Path) -> None:
    folder = data.download(DataSource(data_dir=tmp_path, mirror=(tmp_path / "nowhere").as_uri()))
    assert (folder / LABELS).read_bytes() == (files / LABELS).read_bytes()


def test_when_no_mirror_has_a_file_the_error_names_it_what_came_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FashionMNIST, "mirrors", [(tmp_path / "nowhere").as_uri()])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"<html>")
    with pytest.raises(DownloadError) as error:
        data.download(DataSource(dataset="fashion-mnist", data_dir=tmp_path / "data", mirror=f"{tmp_path.as_uri()}/"))
    came = f"{tmp_path.as_uri()}/train-images-idx3-ubyte.gz gave 6 bytes with MD5"
    for part in (came, "nowhere", "No such file", "--mirror"):
        assert part in str(error.value)
    assert not list(tmp_path.glob("data/**/*.gz"))


def test_files_of_another_dataset_are_held_to_checksums_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = {name: gzip.compress(name.encode()) for name, _ in FashionMNIST.resources}
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
    checksums = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(FashionMNIST, "resources", checksums)
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    source = DataSource(dataset="fashion-mnist", data_dir=tmp_path / "data", mirror=tmp_path.as_uri())
    folder = data.download(source)
    for name in packed:
        (tmp_path / name).unlink()  # who asked again would find nothing
    assert data.download(source) == folder
    flip_a_bit(folder / f"{LABELS}.gz")
    with pytest.raises(DownloadError):
        data.download(source)


def test_the_split_is_the_reference(splits: Splits) -> None:
    assert [len(part) for part in (splits.train, splits.test, splits.exam)] == [48_000, 12_000, 10_000]
    assert splits.test.labels[:12].tolist() == [3, 6, 6, 6, 0, 3, 6, 2, 5, 6, 5, 8]
    assert str(splits) == f"48,000 images ({splits.train.sha256[:8]})"


def test_a_split_has_the_classes_and_the_name_of_what_it_was_cut_from() -> None:
    dozen = Schema(tuple("abcdefghijkl"))
    images, labels = torch.zeros(12, 28, 28, dtype=torch.uint8), torch.arange(12)
    training = data.examples(images, labels, classes=12)
    splits = data.split(training, training, schema=dozen)
    assert (splits.schema, splits.source_sha256) == (dozen, training.sha256)
    assert sorted([*splits.train.labels.tolist(), *splits.test.labels.tolist()]) == [*range(12)]


def test_the_validation_part_is_a_fifth_and_always_the_same(splits: Splits) -> None:
    rest, fifth = data.hold_out(splits.exam)
    assert (len(rest), len(fifth)) == (8_000, 2_000)
    assert rest.sha256 == fifth.sha256 == splits.exam.sha256
    assert torch.equal(data.hold_out(splits.exam)[1].pixels, fifth.pixels)
    both = torch.cat([rest.pixels, fifth.pixels]).flatten(1).double().sum(dim=1)
    assert torch.equal(both.sort().values, splits.exam.pixels.flatten(1).double().sum(dim=1).sort().values)


def test_classes_are_called_what_their_dataset_calls_them() -> None:
    assert data.class_names("mnist") == tuple("0123456789")
    assert data.class_names("fashion-mnist")[:2] == ("T-shirt/top", "Trouser")


def test_images_are_floats_from_0_to_1_and_map_back_to_their_pixels(splits: Splits) -> None:
    for part in (splits.train, splits.test, splits.exam):
        assert part.images.dtype == torch.float32
        assert part.images.shape == (len(part), 28, 28)
        assert (part.images.min().item(), part.images.max().item()) == (0, 1)
    every_pixel = torch.arange(256, dtype=torch.uint8)
    assert torch.equal((255 * data.normalize(every_pixel)).round().to(torch.uint8), every_pixel)


def test_a_set_is_named_by_its_content() -> None:
    images, labels = torch.zeros(2, 28, 28, dtype=torch.uint8), torch.tensor([0, 1])
    name = data.examples(images, labels).sha256
    assert data.examples(images.clone(), labels.clone()).sha256 == name
    assert data.examples(images, labels.flip(0)).sha256 != name
    assert data.examples(images + 1, labels).sha256 != name
    assert data.examples(images.reshape(2, 14, 56), labels).sha256 != name


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (torch.zeros(2, 28, 28), torch.tensor([0, 1]), "images must be uint8"),
        (torch.zeros(2, 784, dtype=torch.uint8), torch.tensor([0, 1]), r"images must be .* not .*\(2, 784\)"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), torch.tensor([0]), "2 images need as many labels"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), torch.tensor([0, 10]), "labels must lie in 0 to 9, not in 0 to 10"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), torch.tensor([-1, 0]), "labels must lie in 0 to 9, not in -1 to 0"),
        (torch.zeros(0, 28, 28, dtype=torch.uint8), torch.tensor([]), "there are no images"),
    ],
)
def test_data_that_cannot_be_right_is_refused(images: torch.Tensor, labels: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        data.examples(images, labels)
