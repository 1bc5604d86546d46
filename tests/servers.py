"""What tests share that start servers and wait for what comes of them."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import uvicorn
from starlette.types import ASGIApp

from mnist_pipeline.web import listen
from serving.connection import Connection


def free_ports(count: int) -> list[int]:
    """Return different ports of the loopback on which nothing listens."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def free_port() -> int:
    (port,) = free_ports(1)
    return port


def answers(url: str) -> bool:
    """Return whether a server is up: it answers, and not with an error."""
    try:
        with urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except OSError:  # which urllib's errors are
        return False


@contextmanager
def running(app: ASGIApp, **options: Any) -> Iterator[str]:
    """Run `app` in a thread, on connections as `python -m serving` has them; yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, log_level="critical", **options))
    with listen(0, remedy="") as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def children(pid: int) -> list[int]:
    """Return the processes that the threads of another have started."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def eventually(holds: Callable[[], object], *, within: float = 60, every: float = 0.05) -> None:
    """Wait until `holds` returns a true value, for at most `within` seconds, asking `every` so many seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(every)


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve `handler` on this machine within the block; yield its URL."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the URL of a webhook on this machine, and the list of the messages that it has received."""
    received: list[dict[str, Any]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with listening(Webhook) as url:
        yield url, received


def with_default_signals() -> None:
    """Let signals end a process that is about to start, even if the tests run under nohup, or in the background."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
