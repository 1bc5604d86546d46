"""What a request brings → uint8 images (N, H, W) of the model's size, or a refusal that says why."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NoReturn

import numpy as np
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mnist_pipeline import images
from mnist_pipeline.config import Schema
from mnist_pipeline.images import ImageError, ImageTooLargeError

MAX_BODY = 10 * 2**20  # bytes: a large photograph's
MAX_IMAGES = 1000
PICTURES = ("image/png", "image/jpeg", "image/jpg")
ACCEPTED = "send a PNG or JPEG as image/png, image/jpeg or multipart/form-data, or an array as application/json"
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body cannot be read"},
    408: {"description": "The body took too long to arrive"},
    413: {"description": "The body, the image, or the number of images is too large"},
    415: {"description": "The content type is not read here"},
    422: {"description": "What the body holds is no image"},
}
_PICTURE = {"type": "string", "format": "binary"}
_IMAGE = {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}}
BODY = {  # as OpenAPI describes it
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [_IMAGE, {"type": "array", "items": _IMAGE}]}},
            "multipart/form-data": {"schema": {"type": "object", "properties": {"image": _PICTURE}}},
        }
        | {kind: {"schema": _PICTURE} for kind in PICTURES[:2]},
    }
}


class Refusal(Exception):  # noqa: N818
    """A request that cannot be answered, and the HTTP status that says so."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


async def read_body(headers: Headers, stream: AsyncIterator[bytes]) -> bytes:
    """Read a request's body, no further than it may be long."""
    announced = headers.get("content-length", "0")
    body = bytearray()
    if not announced.isdigit() or int(announced) <= MAX_BODY:
        async for part in stream:
            body += part
            if len(body) > MAX_BODY:
                break
        else:
            return bytes(body)
    raise Refusal(413, f"the request is larger than {MAX_BODY:,} bytes")


async def picture_in_form(headers: Headers, body: bytes) -> bytes:
    """Take the one file out of a form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(headers, stream(), max_files=1, max_fields=10, max_part_size=MAX_BODY).parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        raise Refusal(400, f"the form cannot be read: {getattr(error, 'message', 'it is damaged')}") from None
    try:
        for part in form.values():
            if isinstance(part, UploadFile):
                return await part.read()
    finally:
        await form.close()
    raise Refusal(422, "the form holds no file: send the image as a file, such as curl -F image=@three.png")


def from_picture(content: bytes, schema: Schema) -> np.ndarray:
    """Make a PNG or JPEG like the images that the model was trained on: (1, H, W)."""
    try:
        return images.read(content, schema)[None]
    except ImageTooLargeError as error:
        raise Refusal(413, f"the image is too large: {error}") from None
    except ImageError as error:
        raise Refusal(422, f"the image cannot be used: {error}") from None


def from_json(body: bytes, schema: Schema) -> np.ndarray:
    """Take the pixels (H, W) or (N, H, W) of a JSON array as they are."""
    height, width = schema.height, schema.width
    shapes = f"({height}, {width}) or (N, {height}, {width})"
    try:
        content = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(content, list):
        raise Refusal(422, f"the body must be an array of pixels {shapes}, not {_kind(content)}")
    try:
        pixels = np.array(content)
    except (ValueError, OverflowError, RecursionError):
        raise Refusal(422, f"the array is ragged: each image must have {height} rows of {width} pixels") from None
    if pixels.size == 0:
        raise Refusal(422, "there are no images: the array is empty")
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.shape[1:] != (height, width):
        raise Refusal(422, f"the array must have the shape {shapes}, not {np.shape(content)}")
    if pixels.dtype.kind != "i":
        raise Refusal(422, f"pixels must be whole numbers from 0 to 255, not {pixels.dtype}")
    if pixels.min() < 0 or pixels.max() > 255:
        raise Refusal(422, f"pixels must lie in 0 to 255, not in {pixels.min()} to {pixels.max()}")
    if len(pixels) > MAX_IMAGES:
        raise Refusal(413, f"at most {MAX_IMAGES:,} images are predicted at once, not {len(pixels):,}")
    return pixels.astype(np.uint8)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that JSON knows")


def _kind(content: object) -> str:
    return {dict: "an object", str: "a string", type(None): "null"}.get(type(content), "a single value")
