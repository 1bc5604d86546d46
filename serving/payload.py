"""A request's body → uint8 images (N, H, W) of the model's size, or an `HTTPException` that says why not."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import chain
from typing import Any

import numpy as np
import pydantic_core
from fastapi import HTTPException
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mnist_pipeline.data.pictures import preprocessing
from mnist_pipeline.data.pictures.preprocessing import ImageError, ImageTooLargeError, Reading
from mnist_pipeline.data.schema import Schema

MAX_BODY = 10 * 2**20  # bytes: a large photograph's
MAX_IMAGES = 1000
MAX_FEEDBACK = 1000  # bytes
PICTURES = ("image/png", "image/jpeg", "image/jpg")
ACCEPTED = "send a PNG or JPEG as image/png, image/jpeg or multipart/form-data, or an array as application/json"
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body cannot be read"},
    408: {"description": "The body took too long to arrive"},
    413: {"description": "The body, the image, or the number of images is too large"},
    415: {"description": "The content type is not accepted"},
    422: {"description": "The body does not hold an image"},
    503: {"description": "There is no model yet, or the server is busy"},
}
NO_TOKEN: dict[int | str, dict[str, Any]] = {401: {"description": "The token is missing, or another"}}
FEEDBACK_ERRORS: dict[int | str, dict[str, Any]] = {
    **{status: ERRORS[status] for status in (400, 408, 413, 415)},
    404: {"description": "No answer with this id is kept"},
    422: {"description": "The body is not as described, or the label is no class of the model's"},
    503: {"description": "The log cannot be written now"},
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

_TEXT = {"type": "string"}
_FEEDBACK = {"type": "object", "required": ["id", "label"], "properties": {"id": _TEXT, "label": _TEXT}}
FEEDBACK_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _FEEDBACK}}}}


async def read_body(headers: Headers, stream: AsyncIterator[bytes], limit: int) -> bytes:
    """Read a request's body, up to the size that is allowed."""
    too_large = HTTPException(413, f"the request is larger than {limit:,} bytes")
    if int(headers.get("content-length", 0)) > limit:
        raise too_large
    body = bytearray()
    async for part in stream:
        body += part
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def picture_in_form(headers: Headers, body: bytes) -> bytes:
    """Return the one file in a form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(headers, stream(), max_files=1, max_fields=10, max_part_size=MAX_BODY).parse()
    except (MultiPartException, LookupError, ValueError) as error:
        raise HTTPException(400, f"the form cannot be read: {getattr(error, 'message', 'it is damaged')}") from None
    try:
        for part in form.values():
            if isinstance(part, UploadFile):
                return await part.read()
    finally:
        await form.close()
    raise HTTPException(422, "the form holds no file: send the image as a file, such as curl -F image=@three.png")


def from_picture(content: bytes, schema: Schema) -> Reading:
    """Preprocess a PNG or JPEG as the model's training images were."""
    try:
        return preprocessing.read(content, schema)
    except ImageTooLargeError as error:
        raise HTTPException(413, f"the image is too large: {error}") from None
    except ImageError as error:
        raise HTTPException(422, f"the image cannot be used: {error}") from None


def from_json(body: bytes, schema: Schema) -> np.ndarray:
    """Return the pixels of a JSON array (H, W) or (N, H, W): (N, H, W)."""
    height, width = schema.height, schema.width
    shapes = f"({height}, {width}) or (N, {height}, {width})"
    if body.count(b"[") > MAX_IMAGES * (height + 1) + 1:  # millions of lists would keep the server busy for a second
        raise HTTPException(413, f"at most {MAX_IMAGES:,} images are predicted at once, and the array has more rows")
    content = _json(body)
    if not isinstance(content, list) or not content:
        raise HTTPException(422, f"the body must be an array of pixels {shapes}, not {_kind(content)}")
    first = content[0]
    images = [content] if isinstance(first, list) and first and not isinstance(first[0], list) else content
    if len(images) > MAX_IMAGES:
        raise HTTPException(413, f"at most {MAX_IMAGES:,} images are predicted at once, not {len(images):,}")
    for number, image in enumerate(images):
        rows = image if isinstance(image, list) else []
        if len(rows) != height or any(not isinstance(row, list) or len(row) != width for row in rows):
            found = f"image {number} is not {height} rows of {width} pixels"
            raise HTTPException(422, f"the array must have the shape {shapes}: {found}")
    pixels = [*chain.from_iterable(chain.from_iterable(images))]
    wrong = [value for value in pixels if type(value) is not int or not 0 <= value <= 255]
    if wrong:
        raise HTTPException(422, f"pixels must be whole numbers from 0 to 255, not {_kind(wrong[0])}")
    return np.array(pixels, np.uint8).reshape(-1, height, width)


def feedback(body: bytes) -> tuple[str, str]:
    """Return the id and the label of a JSON object."""
    match _json(body):
        case {"id": str() as id, "label": str() as label}:
            return id, label
    raise HTTPException(422, 'the body must be an object such as {"id": "…", "label": "7"}')


def _json(body: bytes) -> Any:
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None


def _kind(content: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "an array" if content else "an empty one", str: "a string"}
    return kinds.get(type(content)) or f"{json.dumps(content):.30}"
