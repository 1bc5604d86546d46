"""The page and the API."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import torch
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_pipeline.config import CHAMPION
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.tracking.registry import Registry
from serving import payload
from serving.champion import Champion, Loaded

BODY_TIMEOUT = 15  # seconds that a body may take to arrive
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def create_app(model: str = CHAMPION, *, poll_interval: float = 2) -> FastAPI:
    """Return the app around what `model` names, which it polls every `poll_interval` seconds.

    Raises `ValueError` if there is no such model.
    """
    champion = Champion(model)
    limiter = anyio.CapacityLimiter(os.cpu_count() or 1)  # images decoded and predicted at once, each in some memory

    @contextlib.asynccontextmanager
    async def follow_champion(_: FastAPI) -> AsyncIterator[None]:
        follower = asyncio.create_task(champion.follow(poll_interval))
        yield
        follower.cancel()

    app = FastAPI(title="mnist-pipeline", lifespan=follow_champion, docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    app.add_middleware(SecurityHeaders)

    @app.exception_handler(Exception)
    async def internal_error(_request: Request, _error: Exception) -> JSONResponse:
        # Starlette sends this from outside all middleware, SecurityHeaders included.
        return JSONResponse({"detail": "internal error: see the server's log"}, 500, HEADERS)

    @app.post("/predict", responses=payload.ERRORS, openapi_extra=payload.BODY)
    async def predict(request: Request) -> JSONResponse:
        """Predict what an image shows: a PNG or JPEG of any size, or pixels as the model takes them."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (*payload.PICTURES, "multipart/form-data", "application/json"):
            raise HTTPException(415, f"{kind or 'no content type'} is not accepted: {payload.ACCEPTED}")
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                body = await payload.read_body(request.headers, request.stream())
        except TimeoutError:
            raise HTTPException(408, f"the body took more than {BODY_TIMEOUT} seconds to arrive") from None
        if kind == "multipart/form-data":
            body = await payload.picture_in_form(request.headers, body)
        read = payload.from_json if kind == "application/json" else payload.from_picture
        return JSONResponse(await anyio.to_thread.run_sync(_answer, champion.loaded, read, body, limiter=limiter))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Return which version answers, and what keeps the server from following the alias, if anything."""
        return {"status": "ok", "model_version": champion.loaded.version, "last_error": champion.last_error}

    @app.get("/model")
    def model_card() -> dict[str, Any]:
        """Return how good the version that answers is, when it was promoted, and its classes."""
        loaded = champion.loaded
        schema = loaded.network.schema
        image_size = (schema.height, schema.width)
        return Registry(loaded.name).card(loaded.version) | {"classes": schema.classes, "image_size": image_size}

    app.router.default = StaticFiles(packages=[("serving", "page")], html=True)  # a mount would take GET /predict, too
    return app


def _answer(loaded: Loaded, read: Callable[[bytes, Schema], Any], body: bytes) -> dict[str, Any]:
    schema = loaded.network.schema
    pixels = read(body, schema)
    with torch.inference_mode():
        probabilities = loaded.network(torch.from_numpy(pixels))
    predictions = [
        {"label": schema.classes[best], "probabilities": row}
        for best, row in zip(probabilities.argmax(dim=1).tolist(), probabilities.tolist(), strict=True)
    ]
    if read is payload.from_picture:
        predictions[0]["seen"] = pixels[0].tolist()  # the network's input
    return {"model": loaded.name, "model_version": loaded.version, "predictions": predictions}
