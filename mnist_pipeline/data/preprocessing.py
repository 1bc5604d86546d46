"""Preprocessing of any size and colour → uint8 images of a model's size, made as its training images were.

MNIST's makers cropped each digit to its strokes, fitted it into 20×20 without changing its shape, and put its centre of
mass in the middle of 28×28, light on dark. Images out of a folder of the user's own are only resized.
"""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_pipeline.data.schema import Schema

SIDE, BOX = 28, 20
CENTRE = 14.0  # of mass: MNIST's own digits lie within half a pixel of it
FORMATS = ("PNG", "JPEG")  # what the server accepts
FILE_FORMATS = {  # what is read from disk: torchvision's, by suffix
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
MAX_PIXELS = 50_000_000  # a large photograph's; of anything larger only the header is read
WORKING_SIZE = 8 * BOX  # larger pictures are shrunk to this first: the result cannot show more
FAINTEST = 24  # of 255: strokes that differ from the background by less are none
UNEVEN = 64  # of 255: how far the light may fall off from the middle to a side
NOISE, FULL = 0.15, 0.85  # of the strongest contrast: less is background, more is a full stroke


class ImageError(ValueError):
    """A picture that cannot be used."""


class ImageTooLargeError(ImageError):
    """A picture with more pixels than it is safe to decode."""


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 pixels to float32 in [0, 1]."""
    return pixels.to(torch.float32).div_(255)  # in place: 150 MB less for the training images


def read(file: Path | bytes, schema: Schema = Schema()) -> np.ndarray:
    """Read a picture of any size and colour as an image for a model with `schema`: uint8 (height, width).

    Bytes must be a PNG or a JPEG; a file may also be a BMP, PPM, TIFF or WebP. Raises `ImageError` if it is not one, is
    damaged or too large, or if a digit is expected and nothing stands out.
    """
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
                image.draft(None, (WORKING_SIZE, WORKING_SIZE))  # a JPEG is decoded no larger than needed
                grey = _grey(ImageOps.exif_transpose(image))
        if schema.preprocessing == "like-mnist":
            grey = like_mnist(grey)
        return resized(grey, schema.height, schema.width)
    except Image.DecompressionBombError:
        raise ImageTooLargeError(f"it has far more than the {MAX_PIXELS:,} pixels that are allowed") from None
    except UnidentifiedImageError:
        raise ImageError(f"it is not a {' or a '.join(formats)}") from None
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow raises on damaged files
        raise ImageError(f"it is damaged ({error})") from None


def like_mnist(grey: np.ndarray) -> np.ndarray:
    """Make a grey picture (H, W), 0 to 255, look like MNIST's: uint8 (28, 28), light on dark.

    One that already looks like that is left as it is.
    """
    contrast = grey - _background(grey)
    is_light = np.square(contrast.clip(min=0)).sum() >= np.square(contrast.clip(max=0)).sum()
    light, foreground = (grey, _foreground(contrast)) if is_light else (255 - grey, _foreground(-contrast))
    if grey.shape == (SIDE, SIDE) and np.median(_border(light)) < FAINTEST and _is_in_place(light * (foreground > 0)):
        return light.astype(np.uint8)
    digit = _fit(_crop(foreground))
    rows, columns = _centre_of_mass(digit)
    top, left = (
        min(max(round(CENTRE - centre), 0), SIDE - length)
        for centre, length in zip((rows, columns), digit.shape, strict=True)
    )
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field


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


def _grey(image: Image.Image) -> np.ndarray:
    """Flatten colour and transparency; transparent pixels become white, or black behind light strokes."""
    if image.mode.startswith("I"):  # 16 bits
        return _shrunk(Image.fromarray((np.asarray(image, np.float32) / 257).clip(0, 255)))
    if not image.has_transparency_data:
        return _shrunk(image.convert("L"))
    grey, alpha = image.convert("RGBA").convert("LA").split()
    opacity = _shrunk(alpha) / 255
    shown = _shrunk(Image.composite(grey, Image.new("L", grey.size), alpha))  # times its opacity
    behind = 0 if shown.sum() > 127 * opacity.sum() else 255
    return shown + behind * (1 - opacity)


def _shrunk(image: Image.Image) -> np.ndarray:
    scale = WORKING_SIZE / max(image.size)
    if scale < 1:  # not by ImageOps.contain, which leaves nothing of a line
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, np.float32)


def _foreground(contrast: np.ndarray) -> np.ndarray:
    """Return how much each pixel belongs to a stroke, by how much lighter it is than the background: 0 to 1."""
    foreground = contrast.clip(0)
    strongest = foreground.max(initial=0)
    if strongest < FAINTEST:
        raise ImageError("it is blank: no digit stands out from its background")
    scaled: np.ndarray = np.clip((foreground / strongest - NOISE) / (FULL - NOISE), 0, 1)
    return scaled


def _background(grey: np.ndarray) -> np.ndarray:
    """Return the background as the border shows it: of one grey, or falling off to a side as light does on paper."""
    background = np.median(_border(grey))
    top, bottom, left, right = sides = [np.median(side) for side in (grey[0], grey[-1], grey[:, 0], grey[:, -1])]
    if max(abs(side - background) for side in sides) > UNEVEN:  # a stroke touches a side
        return np.full_like(grey, background, np.float32)
    rows, columns = (np.linspace(-0.5, 0.5, length, dtype=np.float32) for length in grey.shape)
    plane: np.ndarray = (background + (bottom - top) * rows[:, None] + (right - left) * columns).astype(np.float32)
    return plane


def _border(grey: np.ndarray) -> np.ndarray:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _is_in_place(foreground: np.ndarray) -> bool:
    in_size = BOX - 2 <= max(_crop(foreground).shape) <= BOX
    return in_size and all(abs(centre - CENTRE) <= 0.75 for centre in _centre_of_mass(foreground))


def _crop(foreground: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero(foreground.any(axis=axis)) for axis in (1, 0))
    return foreground[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(foreground: np.ndarray) -> np.ndarray:
    """Fit a digit (H, W), 0 to 1, into the box, keeping its shape: uint8, the longer side 20."""
    height, width = foreground.shape
    scale = BOX / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    fitted = np.asarray(Image.fromarray(foreground.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0)
    pixels: np.ndarray = np.round(fitted / fitted.max() * 255).astype(np.uint8)
    return pixels


def _centre_of_mass(foreground: np.ndarray) -> tuple[float, float]:
    mass = foreground.sum(dtype=np.float64)
    rows, columns = (np.arange(length) for length in foreground.shape)
    return float(foreground.sum(axis=1) @ rows / mass), float(foreground.sum(axis=0) @ columns / mass)
