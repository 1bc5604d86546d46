"""The Prefect API that lives as long as a command if no other is named, and the lasting one.

Prefect has no mode without an API server. The temporary one that it starts itself is slow, as the client imports the
whole server too, and fragile: a child in the same process group, it dies of the Ctrl-C that it should record,
and outlives a SIGTERM. This one is started first and boots while the command's other imports load. It is in a session
of its own, uses Prefect's usual database, so that `prefect server start` shows its runs later, and ends when the
command's end of a socket closes, whatever ended the command.

Run as a module it is that server; `python -m flows.ui prefect` runs a lasting one, with its UI and its scheduler.
"""

from flows import startup

if __name__ == "__main__":  # before the other imports
    startup.begin()

import atexit
import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from mnist_pipeline.process import stoppable
from mnist_pipeline.tracking.processes import is_alive, try_lock
from mnist_pipeline.web import listen, protect

SHORT_LIVED = {
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",  # the command reports what went wrong
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # only a lasting server registers block types, which means
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",  # importing every installed integration, Dask among them
}
OTHER_PORT = 'make server ARGS="--port 4201" or PREFECT_UI_URL=http://127.0.0.1:4201 takes another'

DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
BOOTED = b"booted"
MAX_BOOT = 60  # seconds that a server which is to end may take to create its database
SHUTDOWN_TIMEOUT = 4  # seconds that the server may take to end: it would wait a minute for a locked database
PATIENCE = 15  # seconds that the lasting server may be away, as while it is started again


def ensure_prefect_api(*, schedules: bool = False) -> None:
    """Use the API that Prefect's settings name (`PREFECT_API_URL`), or this project's lasting server, or start one.

    One with `schedules` is, as long as it is up, the lasting server for the project's other commands, with its UI. If
    it ends before them, one of them takes its place.
    """
    from prefect.settings import get_current_settings

    if url := get_current_settings().api.url:
        if not re.match(r"https?://[^/]+(/.*)?/api(/|$)", url):
            raise ValueError(f"PREFECT_API_URL must be an address such as http://127.0.0.1:4200/api, not {url}")
        print(f"Prefect: {url}, named by PREFECT_API_URL", file=sys.stderr)
    elif address := _find_lasting_server():
        _use(f"{address}/api", address)
        print(f"Prefect: {address}, this project's server", file=sys.stderr)
        threading.Thread(target=_take_over, args=[urlsplit(address).port or 80], daemon=True).start()
    else:
        address = _lasting_address()
        port = (urlsplit(address).port or 80) if schedules else 0
        _use(start_prefect_api(schedules=schedules, port=port), address)
    if "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" not in os.environ:
        get_current_settings().flows.heartbeat_frequency = None  # it would delay the end of each run by up to a second


def has_ui() -> bool:
    """Return whether the API in use has a UI: one that lives as long as a command has none."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    return not (settings.api.url or "").startswith("http://127.0.0.1:") or settings.api.url == f"{settings.ui_url}/api"


def start_prefect_api(*, schedules: bool = False, port: int = 0) -> str:
    """Start an API that ends with this process, by default on any free port; return its URL.

    Returns at once: requests wait in the socket's queue until the server has booted, and while a dead one is replaced.
    """
    server = _OwnServer(port, schedules=schedules)
    threading.Thread(target=server.supervise, daemon=True).start()
    return f"http://127.0.0.1:{server.port}/api"


def serve_forever(port: int | None = None) -> None:
    """Run the lasting server, with its UI and its scheduler, until a signal raises `Stopped`."""
    if port is not None:
        os.environ["PREFECT_UI_URL"] = f"http://127.0.0.1:{port}"
    address = _lasting_address()
    if running := _find_lasting_server():
        raise OSError(f"this project's Prefect server is already running, on {running}")
    try:
        server = _OwnServer(urlsplit(address).port or 80, schedules=True)
    except OSError as error:
        raise OSError(f"Prefect's server cannot start: {error}") from None
    print(f"Prefect's server is on {address}", flush=True)
    with stoppable():
        server.supervise()
    if server.startup_error:
        raise OSError(f"Prefect's server cannot start: {server.startup_error}")


def explain_prefect_error(error: BaseException) -> str | None:
    """Return in one line what is wrong with the API, if that is where `error` comes from."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    again = "the same command resumes where this one stopped"
    if isinstance(error, PrefectHTTPStatusError) and error.response.is_server_error:
        return f"the Prefect API at {settings.api.url} failed: check that its database has room; then {again}"
    if not (isinstance(error, httpx.TransportError) or "Failed to reach API" in str(error)):
        return None
    if _OwnServer.startup_error:
        remedy = f"its home {settings.home} (PREFECT_HOME) must be a writable folder, and prefect.db in it intact"
        if DATABASE in os.environ:
            remedy = f"{DATABASE} must name a database that Prefect can use, or be left out"
        elif "Can't locate revision" in _OwnServer.startup_error:
            remedy = f"prefect.db in {settings.home} is of a newer Prefect: install that, or move the file away"
        return f"the Prefect API cannot start: {_OwnServer.startup_error}; {remedy}"
    return f"the Prefect API at {settings.api.url} does not answer: once it does, {again}"


class _OwnServer:
    """The server's process, replaced if it dies."""

    startup_error = ""  # why it could not boot

    def __init__(self, port: int, *, schedules: bool) -> None:
        self.listener = listen(port, remedy=OTHER_PORT)
        self.port = self.listener.getsockname()[1]
        inherited = str(self.listener.fileno())
        self.command = [sys.executable, "-m", "flows.prefect_server", inherited, *(["schedules"] * schedules)]
        self.environment = ({} if schedules else SHORT_LIVED) | os.environ
        self.stopping = False
        self.lock = contextlib.ExitStack()
        if schedules:  # so that the project's other commands find it; one that looks holds it for a moment
            self.lock.enter_context(try_lock(_home(), f"server-{self.port}", timeout=1))
        self._start()
        atexit.register(self.stop)  # runs after Prefect's own exit handlers, which still send logs

    def _start(self) -> None:
        self.message = b""
        self.line, theirs = socket.socketpair()  # closing it tells the server to end; it carries the server's message
        with theirs:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                pass_fds=[self.listener.fileno()],
                stdin=theirs.fileno(),
                start_new_session=True,  # spared by the terminal's Ctrl-C
            )

    def supervise(self) -> None:
        while not self.stopping:
            while part := self.line.recv(4096):
                self.message += part
            if self.stopping:
                return
            if not self.message.startswith(BOOTED):
                error = self.message.decode(errors="replace")
                _OwnServer.startup_error = error or f"it ended with {self.process.wait()}"
                self.listener.close()  # so that no client waits for it
                return
            self._start()

    def stop(self) -> None:
        self.stopping = True
        self.line.shutdown(socket.SHUT_RDWR)
        if self.message.startswith(BOOTED):  # one that is still booting, or creating its database, ends by itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=SHUTDOWN_TIMEOUT + 1)
        self.lock.close()


def _lasting_address() -> str:
    """Return where this project's lasting server listens once it is started: links lead there."""
    address = (os.environ.get("PREFECT_UI_URL") or "http://127.0.0.1:4200").rstrip("/")
    if not re.fullmatch(r"https?://(\[[0-9a-fA-F:]+\]|[^/:@]+)(:\d{1,5})?(/.*)?", address):
        shown = address.rpartition("@")[2]  # without a password
        raise ValueError(f"PREFECT_UI_URL must be an address such as http://127.0.0.1:4200, not {shown}")
    return address


def _find_lasting_server() -> str | None:
    """Return the address of the server that holds this project's lock, if one does."""
    for path in _home().glob("server-*.lock"):
        if is_alive(path.parent, path.stem):
            return f"http://127.0.0.1:{path.stem.removeprefix('server-')}"
    return None


def _take_over(port: int) -> None:
    """Run the lasting server on `port` once whoever ran it has been gone for a while, as long as this command lives."""
    seen, server = time.monotonic(), None
    while not server:
        time.sleep(1)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            seen = time.monotonic()
        if time.monotonic() > seen + PATIENCE:
            with contextlib.suppress(OSError):  # another command was faster
                server = _OwnServer(port, schedules=True)
    print(f"Prefect: this project's server had ended; this command runs it now, on port {port}", file=sys.stderr)
    server.supervise()


def _home() -> Path:
    return Path(os.environ["PREFECT_HOME"]).expanduser()


def _use(url: str, ui: str) -> None:
    from prefect.context import refresh_global_settings_context

    os.environ |= {"PREFECT_API_URL": url, "PREFECT_UI_URL": ui}
    refresh_global_settings_context()


def _serve(listener: socket.socket, *, schedules: bool) -> None:
    """Serve Prefect's API on `listener` until stdin ends, with its scheduler or without."""
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
            urllib.request.urlopen(f"http://127.0.0.1:{listener.getsockname()[1]}/api/admin/version")
            booting.release()
            _tell_parent(BOOTED)

    threading.Thread(target=warm_up, daemon=True).start()
    server.run(sockets=[listener])
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
        _serve(socket.socket(fileno=int(sys.argv[1])), schedules="schedules" in sys.argv[2:])
    except Exception as error:
        _tell_parent(str(error).encode())
