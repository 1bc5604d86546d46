"""Pictures of any kind become images as MNIST's makers would have made them, or are refused."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_pipeline.data.pictures import preprocessing
from mnist_pipeline.data.pictures.preprocessing import ImageError, ImageTooLargeError
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.splits import Splits
from tests.data.files import encoded, exif, read_one


def stroke(*, mode: str = "L", background: Any = 0, foreground: Any = 255) -> Image.Image:
    """Return an upright stroke, off centre."""
    image = Image.new(mode, (300, 200), background)
    image.paste(foreground, (40, 30, 70, 170))
    return image


@pytest.fixture(scope="module")
def digits(splits: Splits) -> np.ndarray:
    return splits.holdout.pixels.numpy()


def test_mnists_own_digits_are_left_unchanged(digits: np.ndarray) -> None:
    for digit in digits[:1000]:
        assert (read_one(encoded(Image.fromarray(digit))) == digit).all()


def test_negatives_of_mnists_digits_become_the_digits(digits: np.ndarray) -> None:
    for digit in digits[:200]:
        assert (read_one(encoded(Image.fromarray(255 - digit))) == digit).all()


@pytest.mark.parametrize(
    "picture",
    [
        stroke(),
        stroke(background=255, foreground=0),
        stroke(background=200, foreground=120),
        stroke(mode="RGB", background="white", foreground="navy"),
        stroke(mode="RGB", background="black", foreground="orange"),
        stroke(mode="RGBA", background=(0, 0, 0, 0), foreground="black"),
        stroke(mode="RGBA", background=(0, 0, 0, 0), foreground="white"),
        stroke(mode="LA", background=(255, 0), foreground=(20, 255)),
        stroke(mode="1", background=1, foreground=0),
        stroke(mode="I;16", background=0, foreground=65535),
        stroke(mode="RGB", background="white", foreground="navy").quantize(4),
    ],
    ids=lambda picture: picture.mode,
)
def test_colour_depth_and_transparency_make_no_difference(picture: Image.Image) -> None:
    seen = read_one(encoded(picture))
    assert seen.shape == (28, 28)
    assert seen.dtype == np.uint8
    assert (seen[4:24, 12:16] > 200).all()  # 20 high, in the middle, light on dark
    assert seen[:, :11].max() == seen[:, 17:].max() == 0


def test_a_digit_keeps_its_shape_and_has_its_centre_of_mass_in_the_middle() -> None:
    picture = stroke()
    picture.paste(255, (40, 140, 110, 170))  # an L
    seen = read_one(encoded(picture)).astype(float)
    rows, columns = np.flatnonzero(seen.sum(axis=1)), np.flatnonzero(seen.sum(axis=0))
    assert [rows[-1] - rows[0], columns[-1] - columns[0]] == [19, 9]
    assert seen.sum(axis=1) @ np.arange(28) / seen.sum() == pytest.approx(14, abs=0.51)
    assert seen.sum(axis=0) @ np.arange(28) / seen.sum() == pytest.approx(14, abs=0.51)


@pytest.mark.parametrize(
    "as_picture",
    [
        lambda digit: digit.resize((280, 280), Image.Resampling.BICUBIC),
        lambda digit: Image.eval(digit.resize((140, 140), Image.Resampling.BICUBIC), lambda pixel: 220 - pixel // 2),
        lambda digit: digit.resize((20, 20)),
    ],
    ids=["large", "faint, dark on light", "small"],
)
def test_resized_and_faint_digits_are_still_recognised_by_their_nearest_neighbour(
    as_picture: Callable[[Image.Image], Image.Image], digits: np.ndarray, splits: Splits
) -> None:
    known, labels = splits.train.images[:5000].flatten(1), splits.train.labels
    seen = np.stack([read_one(encoded(as_picture(Image.fromarray(digit)))) for digit in digits[:100]])
    nearest = torch.cdist(torch.from_numpy(seen).flatten(1) / 255, known).argmin(dim=1)
    assert (labels[nearest] == splits.holdout.labels[:100]).float().mean() > 0.9


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (240, 40), (235, 150), (250, 150)])
def test_a_scan_of_28_pixels_on_grey_paper_gets_a_black_background(digits: np.ndarray, paper: int, ink: int) -> None:
    scan = np.round(paper - (paper - ink) * (digits[0] / 255)).astype(np.uint8)
    seen = read_one(encoded(Image.fromarray(scan)))
    assert np.median(seen[:3]) == 0
    assert seen.max() > 230
    assert abs(seen.astype(int) - digits[0]).mean() < 10


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (1, 1), (3, 2), (5, 300), (28, 1680)])
def test_a_picture_of_any_shape_is_read_in_bounded_memory(shape: tuple[int, int], split: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    reading = preprocessing.read(encoded(Image.fromarray(noise)), split=split)
    assert reading.pixels.shape[1:] == (28, 28)
    largest = preprocessing.WORKING_SIZE**2 * (preprocessing.LONGEST_ROW if split else 1)
    assert max(step.size for step in reading.steps.values()) <= largest


def test_a_picture_that_is_only_resized_keeps_its_shape_and_its_background() -> None:
    tall = np.full((40, 20), 200, np.float32)
    tall[10:30, 5:15] = 0
    seen = preprocessing.resized(tall, 20, 20)
    assert seen[:, :5].tolist() == [[200] * 5] * 20
    assert (seen[7:13, 9:11] < 20).all()
    assert (preprocessing.resized(tall, 40, 20) == tall).all()


@pytest.mark.parametrize("suffix", preprocessing.FILE_FORMATS)
def test_every_file_format_is_read_from_disk(suffix: str, tmp_path: Path) -> None:
    stroke().save(tmp_path / f"stroke{suffix}")
    assert (read_one(tmp_path / f"stroke{suffix}")[5:23, 13:15] > 200).all()


def test_a_photograph_is_rotated_as_its_exif_orientation_says() -> None:
    lying = stroke().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by a quarter
    file = io.BytesIO()
    lying.save(file, "JPEG", exif=exif)
    seen = read_one(file.getvalue())
    assert (seen[5:23, 13:15] > 200).all()


@pytest.mark.parametrize(
    "damage", [(0x11A, 2, 3, b"72"), (0x11A, 7, 4, b"abcd"), (0x128, 2, 2, b"2"), (0x110, 5, 1, b"\0")], ids=str
)
def test_a_photograph_with_damaged_exif_is_rotated_or_refused(damage: tuple[int, int, int, bytes]) -> None:
    file = io.BytesIO()
    stroke().transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", exif=exif(6, damage))
    try:
        assert (preprocessing.read(file.getvalue()).pixels[0, 5:23, 13:15] > 200).all()
    except ImageError as error:
        assert "it is damaged" in str(error)  # noqa: PT017


RAMP = np.linspace(0, 255, 400, dtype=np.uint8).reshape(20, 20)


@pytest.mark.parametrize(
    "pixels",
    [
        RAMP / np.float32(255),
        RAMP / np.float32(250),  # a little above 1
        RAMP * np.float32(257),
        RAMP.astype(np.int32),
        RAMP.astype(np.uint16),
        RAMP * np.uint16(16),  # 12 bits
        RAMP * np.uint16(257),
    ],
)
def test_floats_and_more_than_8_bits_keep_their_brightness(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "ramp.tif")
    reading = preprocessing.read(tmp_path / "ramp.tif", Schema(("a", "b"), 20, 20, "resized"))
    assert np.abs(reading.pixels[0].astype(int) - RAMP).max() <= 5


@pytest.mark.parametrize("odd", [np.nan, np.inf, -40, 1e6])
def test_pixels_of_no_known_scale_are_refused(odd: float, tmp_path: Path) -> None:
    pixels = RAMP / np.float32(255)
    pixels[3, 3] = odd
    Image.fromarray(pixels).save(tmp_path / "odd.tif")
    with pytest.raises(ImageError, match="save it with 8 or 16 bits"):
        preprocessing.read(tmp_path / "odd.tif")


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (b"", "it is not a PNG or JPEG"),
        (b"not an image", "it is not a PNG or JPEG"),
        (encoded(stroke(), "GIF"), "it is not a PNG or JPEG"),
        (encoded(stroke())[:200], "damaged"),
        (encoded(stroke(), "JPEG")[:400], "damaged"),
    ],
)
def test_bytes_that_are_not_an_intact_png_or_jpeg_are_refused(file: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        read_one(file)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int, tmp_path: Path) -> None:
    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(side))) + part(b"IEND", b"")
    file = tmp_path / "bomb.png"
    file.write_bytes(bomb)
    with pytest.raises(ImageTooLargeError, match="pixels"):
        read_one(file)
