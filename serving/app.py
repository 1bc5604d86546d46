"""The page and the API."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import torch
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_pipeline.config import CHAMPION, Schema
from mnist_pipeline.registry import Registry
from serving import payload
from serving.champion import Champion, Loaded
from serving.payload import Refusal

PAGE = Path(__file__).parent / "page"
HOSTS = ["localhost", "127.0.0.1"]
PATIENCE = 15  # seconds that a body may take to arrive
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


class Guard:
    """Adds `HEADERS` to whatever is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_guarded)


def create_app(model: str = CHAMPION, *, look_every: float = 2) -> FastAPI:
    """Make the app around what `model` names now, and follows it, looking every so many seconds.

    Raises `ValueError` where there is no such model.
    """
    champion = Champion(model)
    at_once = anyio.CapacityLimiter(os.cpu_count() or 1)  # images unpacked and predicted, each in some memory

    @contextlib.asynccontextmanager
    async def following(app: FastAPI) -> AsyncIterator[None]:
        follower = asyncio.create_task(champion.follow(look_every))
        yield
        follower.cancel()

    app = FastAPI(title="mnist-pipeline", lifespan=following, docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.add_middleware(Guard)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse({"detail": refusal.detail}, refusal.status)

    @app.exception_handler(Exception)
    async def confess(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "something went wrong here; the server's log says what"}, 500, HEADERS)

    @app.post("/predict", responses=payload.REFUSALS, openapi_extra=payload.BODY)
    async def predict(request: Request) -> JSONResponse:
        """Predict what an image shows: a PNG or JPEG of any size, or pixels as the model takes them."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (*payload.PICTURES, "multipart/form-data", "application/json"):
            raise Refusal(415, f"{kind or 'no content type'} is not read here: {payload.ACCEPTED}")
        try:
            async with asyncio.timeout(PATIENCE):
                body = await payload.read_body(request.headers, request.stream())
        except TimeoutError:
            raise Refusal(408, f"the body took more than {PATIENCE} seconds to arrive") from None
        if kind == "multipart/form-data":
            body = await payload.picture_in_form(request.headers, body)
        loaded = champion.loaded
        read = payload.from_json if kind == "application/json" else payload.from_picture
        content = await anyio.to_thread.run_sync(_answer, loaded, read, body, limiter=at_once)
        return JSONResponse(content)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the server is up, which version answers, and what keeps it from following the alias, if anything."""
        return {"status": "ok", "model_version": champion.loaded.version, "trouble": champion.trouble}

    @app.get("/model")
    def model_card() -> dict[str, Any]:
        """Tell of the version that answers: how good it is, when it was promoted, its classes."""
        loaded = champion.loaded
        schema = {"classes": loaded.schema.classes, "image_size": (loaded.schema.height, loaded.schema.width)}
        return Registry(loaded.name).card(loaded.version) | schema

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "page.html")

    @app.get("/page.css", include_in_schema=False)
    async def style() -> FileResponse:
        return FileResponse(PAGE / "page.css")

    @app.get("/page.js", include_in_schema=False)
    async def script() -> FileResponse:
        return FileResponse(PAGE / "page.js")

    return app


def _answer(loaded: Loaded, read: Callable[[bytes, Schema], Any], body: bytes) -> dict[str, Any]:
    pixels = read(body, loaded.schema)
    with torch.inference_mode():
        probabilities = loaded.predict(torch.from_numpy(pixels))
    predictions = [
        {"label": loaded.schema.classes[best], "probabilities": row}
        for best, row in zip(probabilities.argmax(dim=1).tolist(), probabilities.tolist(), strict=True)
    ]
    if read is payload.from_picture:
        predictions[0]["seen"] = pixels[0].tolist()  # what the network was shown
    return {"model": loaded.name, "model_version": loaded.version, "predictions": predictions}
