"""The page and the API."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect

from mnist_pipeline.config import CHAMPION
from mnist_pipeline.monitoring.served import Source
from mnist_pipeline.web import is_host, protect
from serving import payload
from serving.access import HEADERS, Bearer, ResponseHeaders
from serving.answers import Answers, Asked
from serving.champion import Champion, Loaded
from serving.log import LogWriter
from serving.metrics import Metrics

PAGE = Path(__file__).parent / "page"
LOG_PART = 2**16  # bytes of a log in one piece
BODY_TIMEOUT = 15  # seconds that a body may take to arrive


def create_app(
    model: str = CHAMPION,
    *,
    poll_interval: float = 2,
    allowed_hosts: Sequence[str] = (),
    token: str | None = None,
    min_confidence: float = 0.0,
    log: LogWriter | None = None,
    share_log: bool = False,
) -> FastAPI:
    """Return the app around what `model` names, which it polls every `poll_interval` seconds.

    It answers under the names of this machine and `allowed_hosts`, or under any name to those that have the `token`.
    Below `min_confidence` it gives no label. What it answers is kept in `log`, of which a
    copy is handed out with `share_log`. Raises `ValueError` if there is no such
    model; an alias is waited for.
    """
    if wrong := [host for host in allowed_hosts if not is_host(host)]:
        raise ValueError(f"an allowed host is a name alone, such as digits.example.org, not {wrong[0]!r}")
    champion, metrics = Champion(model), Metrics(log)
    answers = Answers(min_confidence, log, metrics)
    limiter = anyio.CapacityLimiter(os.cpu_count() or 1)  # images decoded and predicted at once, each in some memory

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        follower = asyncio.create_task(champion.follow(poll_interval))
        if log:
            log.start()
        yield
        follower.cancel()
        if log:
            log.close()  # after the last request

    app = FastAPI(title="mnist-pipeline", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.draining = False
    app.add_middleware(protect, allowed_hosts, any_name=token is not None)
    app.add_middleware(ResponseHeaders)
    app.add_middleware(metrics.count)
    api = APIRouter(dependencies=[Depends(Bearer(token))], responses=payload.NO_TOKEN if token else {})

    def loaded() -> Loaded:
        if not champion.loaded:
            raise HTTPException(503, f"there is no model yet: {champion.last_error}", {"Retry-After": "5"})
        return champion.loaded

    @app.exception_handler(Exception)
    async def internal_error(_request: Request, _error: Exception) -> JSONResponse:
        # Starlette sends this from outside all middleware, ResponseHeaders included.
        return JSONResponse({"detail": "internal error: see the server's log"}, 500, HEADERS)

    @api.post("/predict", responses=payload.ERRORS, openapi_extra=payload.BODY)
    async def predict(
        request: Request, probabilities: bool = False, seen: bool = False, log: bool = True
    ) -> JSONResponse:
        """Predict what an image shows: a PNG or JPEG of any size, or pixels as the model takes them.

        With `probabilities`, the answer has that of every class; with `seen`, the one for a picture has the pixels that
        the network was shown. A server that keeps what it answers does not keep this with `log=false`.
        """
        kind = _content_type(request)
        if kind not in (*payload.PICTURES, "multipart/form-data", "application/json"):
            raise HTTPException(415, f"{kind or 'no content type'} is not accepted: {payload.ACCEPTED}")
        body = await _body(request, payload.MAX_BODY)
        if kind == "multipart/form-data":
            body = await payload.picture_in_form(request.headers, body)
        is_array = kind == "application/json"
        read = payload.from_json if is_array else payload.from_picture
        source: Source = "page" if "origin" in request.headers else "picture"  # a browser names the page's origin
        asked = Asked("array" if is_array else source, probabilities, seen, log)
        answer = await anyio.to_thread.run_sync(answers.answer, loaded(), read, body, asked, limiter=limiter)
        return JSONResponse(answer)

    @api.post("/feedback", responses=payload.FEEDBACK_ERRORS, openapi_extra=payload.FEEDBACK_BODY)
    async def feedback(request: Request) -> dict[str, str]:
        """Record what an image was, by the `id` that its answer has on a server that keeps what it answers."""
        if not log:
            raise HTTPException(404, "this server keeps no answers that could be corrected: start it with --log")
        if (kind := _content_type(request)) != "application/json":
            raise HTTPException(415, f"{kind or 'no content type'} is not accepted: send application/json")
        answer, label = payload.feedback(await _body(request, payload.MAX_FEEDBACK))
        try:
            await asyncio.wrap_future(log.correct(answer, label))
        except LookupError as error:
            raise HTTPException(404, str(error.args[0])) from None
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        except OSError as error:
            raise HTTPException(503, str(error)) from None
        return {"id": answer, "label": label}

    @api.get("/model", responses={503: payload.ERRORS[503]})
    def model_card() -> dict[str, Any]:
        """Return how good the version that answers is, when it was promoted, its classes, and how it answers."""
        now = loaded()
        schema = now.network.schema
        return now.card | {
            "classes": schema.classes,
            "image_size": (schema.height, schema.width),
            "min_confidence": min_confidence,
            "log": log is not None,  # whether answers are kept
        }

    @api.get("/log", response_class=StreamingResponse, include_in_schema=share_log)
    def log_copy() -> StreamingResponse:
        """Return a copy of what was kept, an SQLite file, which `monitor_flow.py --log ADDRESS` fetches."""
        if not (log and share_log):
            raise HTTPException(404, "this server hands out no log: --share-log makes it")
        try:
            copy = log.copy()
        except (sqlite3.Error, OSError, ValueError) as error:
            raise HTTPException(503, f"the log cannot be copied now: {error}") from None
        length = {"Content-Length": str(os.fstat(copy.fileno()).st_size)}
        parts = iter(lambda: copy.read(LOG_PART), b"")
        return StreamingResponse(parts, media_type="application/vnd.sqlite3", headers=length)

    @api.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
    def exposition() -> Response:
        """Return the counters in the format of Prometheus."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Return which version answers, and what keeps the server from following the alias, if anything."""
        version = champion.loaded.version if champion.loaded else None
        return {"status": "ok", "model_version": version, "last_error": champion.last_error}

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", responses={503: {"description": "There is no model yet, or the server is stopping"}})
    async def ready() -> JSONResponse:
        """Return whether requests may be sent here: a model is loaded, and the server is not stopping."""
        now = champion.loaded is not None and not app.state.draining
        return JSONResponse({"ready": now}, 200 if now else 503)

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    app.include_router(api)
    app.router.default = StaticFiles(directory=PAGE, html=True)  # a mount would take GET /predict, too
    return app


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _body(request: Request, limit: int) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await payload.read_body(request.headers, request.stream(), limit)
    except TimeoutError:
        raise HTTPException(408, f"the body took more than {BODY_TIMEOUT} seconds to arrive") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client hung up before the body had arrived") from None
