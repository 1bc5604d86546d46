"""A request's body → uint8 images (N, H, W) of the model's size, or an `HTTPException` that says why not."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NoReturn

import numpy as np
from fastapi import HTTPException
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mnist_pipeline.data import preprocessing
from mnist_pipeline.data.preprocessing import ImageError, ImageTooLargeError
from mnist_pipeline.data.schema import Schema

MAX_BODY = 10 * 2**20  # bytes: a large photograph's
MAX_IMAGES = 1000
PICTURES = ("image/png", "image/jpeg", "image/jpg")
ACCEPTED = "send a PNG or JPEG as image/png, image/jpeg or multipart/form-data, or an array as application/json"
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body cannot be read"},
    408: {"description": "The body took too long to arrive"},
    413: {"description": "The body, the image, or the number of images is too large"},
    415: {"description": "The content type is not accepted"},
    422: {"description": "The body does not hold an image"},
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


async def read_body(headers: Headers, stream: AsyncIterator[bytes]) -> bytes:
    """Read a request's body, up to the size that is allowed."""
    too_large = HTTPException(413, f"the request is larger than {MAX_BODY:,} bytes")
    if int(headers.get("content-length", 0)) > MAX_BODY:
        raise too_large
    body = bytearray()
    async for part in stream:
        body += part
        if len(body) > MAX_BODY:
            raise too_large
    return bytes(body)


async def picture_in_form(headers: Headers, body: bytes) -> bytes:
    """Return the one file in a form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(headers, stream(), max_files=1, max_fields=10, max_part_size=MAX_BODY).parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the form cannot be read: {getattr(error, 'message', 'it is damaged')}") from None
    try:
        for part in form.values():
            if isinstance(part, UploadFile):
                return await part.read()
    finally:
        await form.close()
    raise HTTPException(422, "the form holds no file: send the image as a file, such as curl -F image=@three.png")


def from_picture(content: bytes, schema: Schema) -> np.ndarray:
    """Preprocess a PNG or JPEG as the model's training images were: (1, H, W)."""
    try:
        return preprocessing.read(content, schema)[None]
    except ImageTooLargeError as error:
        raise HTTPException(413, f"the image is too large: {error}") from None
    except ImageError as error:
        raise HTTPException(422, f"the image cannot be used: {error}") from None


def from_json(body: bytes, schema: Schema) -> np.ndarray:
    """Return the pixels of a JSON array (H, W) or (N, H, W): (N, H, W)."""
    height, width = schema.height, schema.width
    shapes = f"({height}, {width}) or (N, {height}, {width})"
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if not isinstance(content, list):
        raise HTTPException(422, f"the body must be an array of pixels {shapes}, not {_kind(content)}")
    try:
        pixels = np.array(content)
    except (ValueError, OverflowError, RecursionError):
        raise HTTPException(422, f"the array is ragged: each image must have {height} rows of {width} pixels") from None
    if pixels.size == 0:
        raise HTTPException(422, "there are no images: the array is empty")
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.shape[1:] != (height, width):
        raise HTTPException(422, f"the array must have the shape {shapes}, not {np.shape(content)}")
    if pixels.dtype.kind != "i":
        raise HTTPException(422, f"pixels must be whole numbers from 0 to 255, not {pixels.dtype}")
    if pixels.min() < 0 or pixels.max() > 255:
        raise HTTPException(422, f"pixels must be in 0 to 255, not in {pixels.min()} to {pixels.max()}")
    if len(pixels) > MAX_IMAGES:
        raise HTTPException(413, f"at most {MAX_IMAGES:,} images are predicted at once, not {len(pixels):,}")
    return pixels.astype(np.uint8)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _kind(content: object) -> str:
    return {dict: "an object", str: "a string", type(None): "null"}.get(type(content), "a single value")
