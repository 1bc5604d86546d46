"""Pictures that were not made for MNIST, as its makers would have shown them."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_pipeline import images
from mnist_pipeline.data import Splits
from mnist_pipeline.images import ImageError, ImageTooLargeError


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def stroke(
    *, mode: str = "L", ground: object = 0, ink: object = 255, size: tuple[int, int] = (300, 200)
) -> Image.Image:
    """An upright stroke, off the middle."""
    image = Image.new(mode, size, ground)  # type: ignore[arg-type]
    image.paste(ink, (40, 30, 70, 170))  # type: ignore[arg-type]
    return image


@pytest.fixture(scope="module")
def digits(splits: Splits) -> np.ndarray:
    return splits.exam.pixels.numpy()


def test_mnists_own_digits_pass_unchanged(digits: np.ndarray) -> None:
    for digit in digits[:2000]:
        assert (images.read(encoded(Image.fromarray(digit))) == digit).all()


def test_so_do_their_negatives(digits: np.ndarray) -> None:
    for digit in digits[:200]:
        assert (images.read(encoded(Image.fromarray(255 - digit))) == digit).all()


@pytest.mark.parametrize(
    "picture",
    [
        stroke(),
        stroke(ground=255, ink=0),
        stroke(ground=200, ink=120),
        stroke(mode="RGB", ground="white", ink="navy"),
        stroke(mode="RGB", ground="black", ink="orange"),
        stroke(mode="RGBA", ground=(0, 0, 0, 0), ink="black"),
        stroke(mode="RGBA", ground=(0, 0, 0, 0), ink="white"),
        stroke(mode="LA", ground=(255, 0), ink=(20, 255)),
        stroke(mode="1", ground=1, ink=0),
        stroke(mode="I;16", ground=0, ink=65535),
        stroke(mode="RGB", ground="white", ink="navy").quantize(4),
    ],
    ids=lambda picture: picture.mode,
)
def test_colour_depth_and_direction_make_no_difference(picture: Image.Image) -> None:
    seen = images.read(encoded(picture))
    assert seen.shape == (28, 28)
    assert seen.dtype == np.uint8
    assert (seen[4:24, 12:16] > 200).all()  # 20 high, in the middle, light on dark
    assert seen[:, :11].max() == seen[:, 17:].max() == 0


def test_the_shape_is_kept_and_the_centre_of_mass_is_in_the_middle() -> None:
    picture = stroke()
    picture.paste(255, (40, 140, 110, 170))  # an L
    seen = images.read(encoded(picture)).astype(float)
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
def test_digits_are_still_recognised(
    as_picture: Callable[[Image.Image], Image.Image], digits: np.ndarray, splits: Splits
) -> None:
    """By their nearest neighbour among a few thousand of MNIST's."""
    known, labels = splits.train.images[:5000].flatten(1), splits.train.labels
    seen = np.stack([images.read(encoded(as_picture(Image.fromarray(digit)))) for digit in digits[:300]])
    nearest = torch.cdist(torch.from_numpy(seen).flatten(1) / 255, known).argmin(dim=1)
    assert (labels[nearest] == splits.exam.labels[:300]).float().mean() > 0.9


def test_light_may_fall_off_over_the_paper() -> None:
    paper = np.tile(np.linspace(130, 210, 300, dtype=np.uint8), (200, 1))
    paper[30:170, 40:70] = 30
    seen = images.read(encoded(Image.fromarray(paper)))
    assert seen[:, :11].max() == seen[:, 17:].max() == 0


def test_a_photograph_is_turned_as_its_camera_says() -> None:
    lying = stroke().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    file = io.BytesIO()
    lying.save(file, "JPEG", exif=exif)
    seen = images.read(file.getvalue())
    assert (seen[5:23, 13:15] > 200).all()


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_blank_picture_is_refused(grey: int) -> None:
    with pytest.raises(ImageError, match="blank"):
        images.read(encoded(Image.new("L", (50, 50), grey)))


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"", "neither a PNG nor a JPEG"),
        (b"not an image", "neither a PNG nor a JPEG"),
        (encoded(stroke(), "GIF"), "neither a PNG nor a JPEG"),
        (encoded(stroke())[:200], "damaged"),
        (encoded(stroke(), "JPEG")[:400], "damaged"),
    ],
)
def test_what_is_no_picture_is_told(file: bytes, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        images.read(file)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_not_unpacked(side: int, tmp_path: Path) -> None:
    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(side))) + part(b"IEND", b"")
    file = tmp_path / "bomb.png"
    file.write_bytes(bomb)
    with pytest.raises(ImageTooLargeError, match="pixels"):
        images.read(file)
