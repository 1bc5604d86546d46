"""Serve the champion, with a page to draw a digit on: `python -m serving`."""

from mnist_pipeline import process

if __name__ == "__main__":  # before the other imports: a signal ends it at once
    process.begin()

import asyncio
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError
from cyclopts.types import Port

from mnist_pipeline.config import CHAMPION, FieldError, check, check_min_confidence
from mnist_pipeline.environment import TOKEN
from mnist_pipeline.web import listen

app = App(name="python -m serving", version_flags=[], exit_on_error=False, print_error=False, verbose=False)
Flag = Annotated[bool, Parameter(negative=())]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to serve. Raises `FieldError` if a value makes no sense."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets others in, who need the token in MNIST_PIPELINE_TOKEN."""
    port: Port = 8000
    """Port to listen on."""
    model: str = CHAMPION
    """Registered model; an alias is followed as it moves."""
    min_confidence: float = 0.0
    """Leave out the label of an image that is less certain, or unclear."""
    log: Flag = False
    """Keep each answered image in served.db, so that it can be corrected."""
    keep: int = 100_000
    """Maximum number of images kept."""
    share_log: Flag = False
    """Hand the log to those with the token: monitoring then takes this server's address."""
    allowed_host: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()
    """Name under which a proxy in front of the server is reached."""
    root_path: str = ""
    """Path, such as /digits, under which a proxy's clients find the server."""
    no_token: Flag = False
    """Admit others without a token, because a proxy asks for a password."""
    drain: float = 2.0
    """Seconds to go on answering after SIGTERM, while /ready says no."""

    def __post_init__(self) -> None:
        check_min_confidence(self.min_confidence)
        check(self.keep >= 1, "keep", self.keep, "at least 1")
        check(self.log or not self.share_log, "share_log", self.share_log, "left out without --log")
        check(0 <= self.drain <= 600, "drain", self.drain, "between 0 and 600")


@app.default
def serve(options: Annotated[Options, Parameter(name="*")] = Options()) -> None:
    """Serve a registered model, with a page to draw a digit on."""
    from serving.access import token_for

    token = token_for(options.host, no_token=options.no_token)
    if options.share_log and not token:
        raise ValueError(f"--share-log hands the log to those with the token: set {TOKEN}")
    remedy = f'--port {options.port + 1} takes another, as in make serve ARGS="--port {options.port + 1}"'
    listener = listen(options.port, host=options.host, remedy=remedy)
    # Its connections inherit it: of a client that reads slowly, but reads, the server is to hear within READ_TIMEOUT
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**17)
    import torch
    import uvicorn

    from mnist_pipeline.tracking.store import as_store_errors, is_local, prepare
    from serving.app import create_app
    from serving.connection import Connection
    from serving.log import LogWriter

    torch.set_num_threads(1)  # a small network gains nothing from a second, and waits for it on a busy machine
    sys.setswitchinterval(0.0005)  # a request does not wait 5 ms for the thread that polls the alias
    own_name = () if options.host in ("0.0.0.0", "::") else (options.host,)
    with as_store_errors():
        if is_local():  # each question opens the file anew: a copy that is put in its place is noticed
            os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
            logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it would tell, and print tracebacks: we say why
        prepare()
        web = create_app(
            options.model,
            allowed_hosts=(*options.allowed_host, *own_name),
            token=token,
            min_confidence=options.min_confidence,
            log=LogWriter(keep=options.keep) if options.log else None,
            share_log=options.share_log,
        )
    config = uvicorn.Config(
        web,
        http=Connection,
        root_path=f"/{options.root_path.strip('/')}".rstrip("/"),
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nothing here depends on them, so nobody's are trusted
        limit_concurrency=200,
        timeout_graceful_shutdown=5,
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.should_exit:  # it is the second signal
                process.exit_at_once(sig)
            web.state.draining = sig != signal.SIGINT
            super().handle_exit(sig, frame)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if web.state.draining:
                await asyncio.sleep(options.drain)  # until those who send requests have seen that it is not ready
                for closing in (*self.servers, *(sockets or ())):
                    closing.close()
                await asyncio.sleep(min(options.drain, 0.2))  # for the request of a connection that was just made
            await super().shutdown(sockets)

    name = f"[{options.host}]" if ":" in options.host else options.host
    print(f"Draw an image on http://{name}:{listener.getsockname()[1]}", flush=True)
    server = Server(config)
    process.handle_signals(server.handle_exit, [signal.SIGHUP])  # which uvicorn leaves alone
    server.run(sockets=[listener])


if __name__ == "__main__":
    try:
        app()
    except FieldError as error:
        sys.exit(f"serving: --{error.field.replace('_', '-')} {error.problem}")
    except UnusedCliTokensError as error:
        unused = " ".join(error.unused_tokens or ())
        sys.exit(f"serving: unexpected argument {unused}: options begin with --, and --help lists them")
    except (CycloptsError, ValueError, OSError) as error:
        sys.exit(f"serving: {error}")
