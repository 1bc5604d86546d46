"""The server's process, run as a module on sockets that it inherits: Prefect's own, which ends when its parent does."""

from flows import startup

if __name__ == "__main__":  # before the other imports
    startup.begin()

import contextlib
import logging
import os
import re
import socket
import sys
import threading
import time

from mnist_pipeline.web import protect

BOOTED = b"booted"
MAX_BOOT = 60  # seconds that a server which is to end may take to create its database
SHUTDOWN_TIMEOUT = 4  # seconds that it may take to end: it would wait a minute for a locked database


def _serve(listeners: list[socket.socket], *, schedules: bool) -> None:
    """Serve Prefect's API on `listeners` until stdin ends, with its scheduler or without."""
    server = None

    def end_with_parent() -> None:
        os.read(0, 1)
        if server is None:
            startup.exit_now()
        server.should_exit = True
        deadline = time.monotonic() + MAX_BOOT
        while not server.started and time.monotonic() < deadline:  # it may be creating its database
            time.sleep(0.1)
        time.sleep(SHUTDOWN_TIMEOUT)  # it would wait for ever if it was stopped while its services started
        startup.exit_now()

    threading.Thread(target=end_with_parent, daemon=True).start()

    startup.pause_gc()
    import urllib.request
    from http.client import HTTPException

    import uvicorn
    from filelock import FileLock
    from prefect.server.api import collections
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    for view in collections.KNOWN_VIEWS:  # it then takes the lists of worker types that it comes with, not GitHub's
        collections.KNOWN_VIEWS[view] = "offline:"
    app = protect(create_app(ephemeral=not schedules, final=True))
    startup.resume_gc()
    config = uvicorn.Config(app, log_config=None, log_level="error", lifespan="on", timeout_graceful_shutdown=2)
    log = logging.getLogger("uvicorn.error")
    log.addHandler(_StartupErrors())
    log.propagate = False
    server = uvicorn.Server(config)
    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    booting = FileLock(home / "booting.lock", thread_local=False)
    booting.acquire()  # of two servers that create the database at once, one dies

    def warm_up() -> None:  # make a client's first request, which takes a quarter of a second
        with contextlib.suppress(OSError, HTTPException):  # it did not boot
            urllib.request.urlopen(f"http://127.0.0.1:{listeners[0].getsockname()[1]}/api/admin/version")
            booting.release()
            _tell_parent(BOOTED)

    threading.Thread(target=warm_up, daemon=True).start()
    server.run(sockets=listeners)
    startup.exit_now()  # the command need not wait a second for the interpreter to clean up


class _StartupErrors(logging.Handler):
    """Tells the parent why the server cannot start: uvicorn logs a traceback, of which one line says it."""

    def emit(self, record: logging.LogRecord) -> None:
        if reasons := re.findall(r"^[\w.]+Error: .*", record.getMessage(), re.MULTILINE):
            _tell_parent(reasons[-1].encode())


def _tell_parent(message: bytes) -> None:
    with contextlib.suppress(OSError):  # the parent is gone
        os.write(0, message)


if __name__ == "__main__":
    try:
        inherited = [socket.socket(fileno=int(word)) for word in sys.argv[1:] if word.isdecimal()]
        _serve(inherited, schedules="schedules" in sys.argv)
    except Exception as error:
        _tell_parent(str(error).encode())
