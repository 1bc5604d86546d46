"""Pictures of any size and colour → uint8 images of a model's size, made as its training images were.

MNIST's makers cropped each digit to its ink, fitted it into 20×20 without changing its shape, and put its centre of
mass in the middle of 28×28, light on dark. Images out of a folder of the user's own are only resized.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_pipeline.config import Schema

SIDE, BOX = 28, 20
CENTRE = 14.0  # of mass: MNIST's own digits lie within half a pixel of it
FORMATS = ("PNG", "JPEG")  # what a stranger may send
FILE_FORMATS = {  # what is read from a disk: torchvision's, by the ends of their names
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
MAX_PIXELS = 50_000_000  # a large photograph's; of more, only the header is read
WORKING_SIZE = 8 * BOX  # what is larger is shrunk to this first: it is as much as the result can show
FAINTEST = 24  # of 255: ink that differs from its ground by less is none
UNEVEN = 64  # of 255: how far the light may fall off from the middle to a side
NOISE, FULL = 0.15, 0.85  # of the strongest ink: what is fainter is ground, what is stronger is full ink


class ImageError(ValueError):
    """A picture of which no image can be made."""


class ImageTooLargeError(ImageError):
    """A picture with more pixels than it is safe to unpack."""


def read(file: Path | bytes, schema: Schema = Schema()) -> np.ndarray:
    """Read a picture, of any size and colour, as the images that `schema` tells of: uint8 (height, width).

    Bytes are a PNG's or a JPEG's; a file may also be a BMP, PPM, TIFF or WebP. Raises `ImageError` where it is none, is
    damaged or too large, or shows nothing where a digit is to be found.
    """
    formats = FORMATS if isinstance(file, bytes) else tuple(dict.fromkeys(FILE_FORMATS.values()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit lies higher than ours
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=formats) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ImageTooLargeError(
                        f"it has {width:,}×{height:,} pixels; at most {MAX_PIXELS:,} in all are read"
                    )
                image.draft(None, (WORKING_SIZE, WORKING_SIZE))  # a JPEG is unpacked no larger than is needed
                grey = _grey(ImageOps.exif_transpose(image))
        if schema.pictures == "like-mnist":
            grey = like_mnist(grey)
        return resized(grey, schema.height, schema.width)
    except Image.DecompressionBombError:
        raise ImageTooLargeError(f"it has far more than {MAX_PIXELS:,} pixels, more than are read") from None
    except UnidentifiedImageError:
        raise ImageError(f"it is neither a {' nor a '.join(formats)}") from None
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow raises on damaged files
        raise ImageError(f"it is damaged ({error})") from None


def like_mnist(grey: np.ndarray) -> np.ndarray:
    """Make of a grey picture (H, W), 0 to 255, what MNIST's makers would have: uint8 (28, 28), light on dark.

    One that looks as if they had made it already is left as it is.
    """
    contrast = grey - _ground(grey)
    is_light = np.square(contrast.clip(min=0)).sum() >= np.square(contrast.clip(max=0)).sum()
    light, ink = (grey, _ink(contrast)) if is_light else (255 - grey, _ink(-contrast))
    if grey.shape == (SIDE, SIDE) and np.median(_border(light)) < FAINTEST and _is_in_place(light * (ink > 0)):
        return light.astype(np.uint8)
    digit = _fit(_crop(ink))
    rows, columns = _centre_of_mass(digit)
    top, left = (
        min(max(round(CENTRE - centre), 0), SIDE - length)
        for centre, length in zip((rows, columns), digit.shape, strict=True)
    )
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field


def resized(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fit a grey picture (H, W), 0 to 255, into uint8 (height, width), keeping its shape, in the middle of its ground.

    One that has that size is left as it is.
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
    """Flatten colour and transparency; what is transparent becomes white, or black behind light ink."""
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


def _ink(contrast: np.ndarray) -> np.ndarray:
    """Tell ink from its ground, by how much lighter it is: 0 to 1, the strongest ink 1."""
    ink = contrast.clip(0)
    strongest = ink.max(initial=0)
    if strongest < FAINTEST:
        raise ImageError("it is blank: no digit stands out from its ground")
    scaled: np.ndarray = np.clip((ink / strongest - NOISE) / (FULL - NOISE), 0, 1)
    return scaled


def _ground(grey: np.ndarray) -> np.ndarray:
    """Give the ground, as the border shows it: of one grey, or falling off to a side as light does on paper."""
    ground = np.median(_border(grey))
    top, bottom, left, right = sides = [np.median(side) for side in (grey[0], grey[-1], grey[:, 0], grey[:, -1])]
    if max(abs(side - ground) for side in sides) > UNEVEN:  # ink touches a side
        return np.full_like(grey, ground, np.float32)
    rows, columns = (np.linspace(-0.5, 0.5, length, dtype=np.float32) for length in grey.shape)
    plane: np.ndarray = (ground + (bottom - top) * rows[:, None] + (right - left) * columns).astype(np.float32)
    return plane


def _border(grey: np.ndarray) -> np.ndarray:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _is_in_place(ink: np.ndarray) -> bool:
    in_size = BOX - 2 <= max(_crop(ink).shape) <= BOX
    return in_size and all(abs(centre - CENTRE) <= 0.75 for centre in _centre_of_mass(ink))


def _crop(ink: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: np.ndarray) -> np.ndarray:
    """Fit ink (H, W), 0 to 1, into the box, keeping its shape: uint8, the longer side 20."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    fitted = np.asarray(Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0)
    pixels: np.ndarray = np.round(fitted / fitted.max() * 255).astype(np.uint8)
    return pixels


def _centre_of_mass(ink: np.ndarray) -> tuple[float, float]:
    mass = ink.sum(dtype=np.float64)
    rows, columns = (np.arange(length) for length in ink.shape)
    return float(ink.sum(axis=1) @ rows / mass), float(ink.sum(axis=0) @ columns / mass)
