"""Preprocessing of any size and colour → uint8 images of a model's size, made as its training images were.

MNIST's makers cropped each digit to its strokes, fitted it into 20×20 without changing its shape, and put its centre of
mass in the middle of 28×28, light on dark. Images out of a folder of the user's own are only resized.
"""

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_pipeline.data.pictures.segmentation import segment
from mnist_pipeline.data.schema import Schema

SIDE, BOX = 28, 20
CENTRE = 14.0  # of mass: MNIST's own digits lie within half a pixel of it
STRONG = 200  # of 255: what MNIST's strokes reach
FORMATS = ("PNG", "JPEG")  # what the server accepts
FILE_FORMATS = {  # what is read from disk: torchvision's, by suffix
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".bmp": "BMP",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
FULL_SCALES = (1, 255, 4095, 65535)  # white in a picture of floats, or of 8, 12 or 16 bits in more
MAX_PIXELS = 50_000_000  # a large photograph's; of anything larger only the header is read
COLOUR_SAMPLE = 16  # pixels of height and width that a picture's mean colour is taken from
WORKING_SIZE = 8 * BOX  # larger pictures are shrunk to this first: the result cannot show more
LONGEST_ROW = 10  # times its height, which is then as much


class ImageError(ValueError):
    """A picture that cannot be used."""


class ImageTooLargeError(ImageError):
    """A picture with more pixels than it is safe to decode."""


@dataclass(frozen=True)
class Reading:
    """What was read from a picture."""

    pixels: np.ndarray  # (N, height, width), uint8: one image, or each digit of a row
    warning: str = ""  # why it is unclear, if it is
    steps: dict[str, np.ndarray] = field(default_factory=dict)  # what was made of the picture on the way, by name
    colour: tuple[float, float] = (0.0, 0.0)  # its mean red and its mean blue, minus its mean green: -1 to 1
    has_more_pages: bool = False  # of which the first alone was read


def read(file: Path | bytes, schema: Schema = Schema(), *, split: bool = False) -> Reading:
    """Read a picture of any size and colour as an image for a model with `schema`, or with `split` each digit in a row.

    Bytes must be a PNG or a JPEG; a file may also be a BMP, PPM, TIFF or WebP. Raises `ImageError` if it is not one, is
    damaged or too large.
    """
    grey, colour, has_more_pages = _decode(file, WORKING_SIZE, split=split)
    reading = like_mnist(grey, split=split) if schema.preprocessing == "like-mnist" else Reading(grey[None])
    pixels = np.stack([resized(image, schema.height, schema.width) for image in reading.pixels])
    return Reading(pixels, reading.warning, {"picture": grey, **reading.steps}, colour, has_more_pages)


def read_grey(file: Path | bytes, *, size: int = WORKING_SIZE) -> np.ndarray:
    """Read a picture upright, as floats from 0 to 255: (H, W), shrunk to `size`. Raises `ImageError` as `read`."""
    return _decode(file, size)[0]


def _decode(file: Path | bytes, size: int, *, split: bool = False) -> tuple[np.ndarray, tuple[float, float], bool]:
    """Return a picture in grey, its mean colour beyond grey, and whether its file has more pages."""
    formats = FORMATS if isinstance(file, bytes) else tuple(dict.fromkeys(FILE_FORMATS.values()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit is higher than ours
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=formats) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ImageTooLargeError(
                        f"it has {width:,}×{height:,} pixels; at most {MAX_PIXELS:,} in all are allowed"
                    )
                if split:  # a row is longer than it is high
                    size *= min(max(2, round(max(width, height) / min(width, height))), LONGEST_ROW)
                # Their number is not asked for: a TIFF may claim millions. Phones put a preview after a JPEG (MPO).
                has_more_pages = image.format != "MPO" and bool(getattr(image, "is_animated", False))
                image.draft(None, (size, size))  # a JPEG is decoded no larger than needed
                return _grey(ImageOps.exif_transpose(image), size), _colour(image), has_more_pages
    except Image.DecompressionBombError:
        raise ImageTooLargeError(f"it has far more than the {MAX_PIXELS:,} pixels that are allowed") from None
    except UnidentifiedImageError:
        *others, last = formats
        raise ImageError(f"it is not a {', '.join(others)} or {last}") from None
    except ImageError:
        raise
    except Exception as error:  # Pillow raises anything on damaged files
        problem = getattr(error, "strerror", None)
        raise ImageError(
            f"it cannot be opened ({problem})" if problem else f"it is damaged, or of an unknown kind ({error})"
        ) from None


def like_mnist(grey: np.ndarray, *, split: bool = False) -> Reading:
    """Make a grey picture (H, W), 0 to 255, look like MNIST's: light on dark, uint8 (1, 28, 28), of a row (N, 28, 28).

    One that already looks like that is left as it is.
    """
    for light in (grey, 255 - grey):
        if not np.median(_border(light)) and light.max() > STRONG and _is_in_place(light):
            return Reading(light.astype(np.uint8)[None])
    found = segment(grey, split=split)
    images = [np.round(digit * 255) if _is_in_place(digit) else _centred(digit) for digit in found.digits]
    return Reading(np.stack(images).astype(np.uint8), found.warning, found.steps)


def resized(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fit a grey picture (H, W), 0 to 255, into uint8 (height, width), keeping its shape, centred on its background.

    One that has that size already is left as it is.
    """
    if grey.shape != (height, width):
        scale = min(height / grey.shape[0], width / grey.shape[1])
        rows, columns = (max(round(length * scale), 1) for length in grey.shape)
        picture = Image.fromarray(grey.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC)
        top, left = (height - rows) // 2, (width - columns) // 2
        field = np.full((height, width), np.median(_border(grey)), np.float32)
        field[top : top + rows, left : left + columns] = np.asarray(picture)
        grey = field
    pixels: np.ndarray = np.round(grey.clip(0, 255)).astype(np.uint8)
    return pixels


def _grey(image: Image.Image, size: int) -> np.ndarray:
    """Flatten colour and transparency; transparent pixels become white, or black behind light strokes."""
    if image.mode[0] in "IF":  # more than 8 bits, or floats
        return _shrunk(Image.fromarray(_scaled(np.asarray(image, np.float32))), size)
    if not image.has_transparency_data:
        return _shrunk(image.convert("L"), size)
    grey, alpha = image.convert("RGBA").convert("LA").split()
    opacity = _shrunk(alpha, size) / 255
    shown = _shrunk(Image.composite(grey, Image.new("L", grey.size), alpha), size)  # times its opacity
    behind = 0 if shown.sum() > 127 * opacity.sum() else 255
    return shown + behind * (1 - opacity)


def _colour(image: Image.Image) -> tuple[float, float]:
    if image.mode[0] in "1LIF":  # there is none
        return 0.0, 0.0
    few = image.resize((COLOUR_SAMPLE, COLOUR_SAMPLE), Image.Resampling.NEAREST).convert("RGB")
    red, green, blue = (np.asarray(few, np.float64).mean(axis=(0, 1)) / 255).tolist()
    return red - green, blue - green


def _scaled(pixels: np.ndarray) -> np.ndarray:
    """Scale to 0 to 255, by the least of the usual depths that holds all of `pixels`: a file does not tell its own."""
    low, high = pixels.min(), pixels.max()
    scale = next((scale for scale in FULL_SCALES if high <= 1.1 * scale), 0)
    if not scale or low < -0.1 * scale:  # or not a number
        raise ImageError(f"its pixels are {low:g} to {high:g}: save it with 8 or 16 bits")
    scaled: np.ndarray = (pixels * np.float32(255 / scale)).clip(0, 255)
    return scaled


def _shrunk(image: Image.Image, size: int) -> np.ndarray:
    scale = size / max(image.size)
    if scale < 1:  # not by ImageOps.contain, which leaves nothing of a line
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, np.float32)


def _border(grey: np.ndarray) -> np.ndarray:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _centred(digit: np.ndarray) -> np.ndarray:
    """Put a digit (H, W), 0 to 1, into the middle of an image, by its centre of mass: (28, 28), 0 to 255."""
    field = np.zeros((SIDE, SIDE))
    if not digit.any():
        return field
    fitted = _fit(_crop(digit))
    top, left = (
        min(max(round(CENTRE - centre), 0), SIDE - length)
        for centre, length in zip(_centre_of_mass(fitted), fitted.shape, strict=True)
    )
    field[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return field


def _is_in_place(light: np.ndarray) -> bool:
    """Return whether a light digit on black has MNIST's size and place."""
    if light.shape != (SIDE, SIDE) or not light.any() or not BOX - 2 <= max(_crop(light).shape) <= BOX:
        return False
    return all(abs(centre - CENTRE) <= 0.75 for centre in _centre_of_mass(light))


def _crop(foreground: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero(foreground.any(axis=axis)) for axis in (1, 0))
    return foreground[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(foreground: np.ndarray) -> np.ndarray:
    """Fit a digit (H, W), 0 to 1, into the box, keeping its shape: 0 to 255, the longer side 20."""
    height, width = foreground.shape
    scale = BOX / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    fitted = np.asarray(Image.fromarray(foreground.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0)
    pixels: np.ndarray = np.round(fitted / fitted.max() * 255)
    return pixels


def _centre_of_mass(foreground: np.ndarray) -> tuple[float, float]:
    mass = foreground.sum(dtype=np.float64)
    rows, columns = (np.arange(length) for length in foreground.shape)
    return float(foreground.sum(axis=1) @ rows / mass), float(foreground.sum(axis=0) @ columns / mass)
