"""The Prefect API that lives as long as a command if no other is named, and the lasting one.

Prefect has no mode without an API server. The temporary one that it starts itself is slow, as the client imports the
whole server too, and fragile: a child in the same process group, it dies of the Ctrl-C that it should record,
and outlives a SIGTERM. This one is started first and boots while the command's other imports load. It is in a session
of its own, uses Prefect's usual database, so that `prefect server start` shows its runs later, and ends when the
command's end of a socket closes, whatever ended the command. `python -m flows.ui prefect` runs a lasting one, with its
UI and its scheduler.
"""

import atexit
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from flows.prefect_server import BOOTED, SHUTDOWN_TIMEOUT
from mnist_pipeline.process import stoppable
from mnist_pipeline.tracking.processes import is_alive, try_lock
from mnist_pipeline.web import listen

SHORT_LIVED = {
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",  # the command reports what went wrong
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # only a lasting server registers block types, which means
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",  # importing every installed integration, Dask among them
}
OTHER_PORT = 'make server ARGS="--port 4201" or PREFECT_UI_URL=http://127.0.0.1:4201 takes another'

DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def ensure_prefect_api(*, schedules: bool = False) -> None:
    """Use the API that Prefect's settings name (`PREFECT_API_URL`), or this project's lasting server, or start one.

    One with `schedules` is, as long as it is up, the lasting server for the project's other commands, with its UI. If
    it ends before them, one of them goes on with it.
    """
    from prefect.settings import get_current_settings

    if url := get_current_settings().api.url:
        if not re.match(r"https?://[^/]+(/.*)?/api(/|$)", url):
            raise ValueError(f"PREFECT_API_URL must be an address such as http://127.0.0.1:4200/api, not {url}")
        print(f"Prefect: {url}, named by PREFECT_API_URL", file=sys.stderr)
    elif found := _find_lasting_server():
        address, port = found
        _use(f"http://127.0.0.1:{port}/api", address)
        print(f"Prefect: {address}, this project's server", file=sys.stderr)
        threading.Thread(target=_replace_server, args=[port], daemon=True).start()
    else:
        address = _lasting_address()
        _use(start_prefect_api(ui_port=_port(address) if schedules else None), address)
    if "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" not in os.environ:
        get_current_settings().flows.heartbeat_frequency = None  # it would delay the end of each run by up to a second


def has_ui() -> bool:
    """Return whether a UI shows the runs of the API in use: one that lives as long as a command has none."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    url, ui = settings.api.url, f"{settings.ui_url}/api"
    if url and (url == ui or not url.startswith("http://127.0.0.1:")):
        return True
    return _find_lasting_server() is not None  # it shows those, too, of a notebook, whose API Prefect starts by itself


def start_prefect_api(*, ui_port: int | None = None) -> str:
    """Start an API that ends with this process, and with `ui_port` is the lasting server; return its URL.

    Returns at once: requests wait in the socket's queue until the server has booted, and while a dead one is replaced.
    """
    server = _OwnServer(ui_port=ui_port)
    threading.Thread(target=server.supervise, daemon=True).start()
    return f"http://127.0.0.1:{server.port}/api"


def serve_forever(port: int | None = None) -> None:
    """Run the lasting server, with its UI and its scheduler, until a signal raises `Stopped`."""
    if port is not None:
        os.environ["PREFECT_UI_URL"] = f"http://127.0.0.1:{port}"
    address = _lasting_address()
    if running := _find_lasting_server():
        raise OSError(f"this project's Prefect server is already running, on {running[0]}")
    try:
        server = _OwnServer(ui_port=_port(address))
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
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    again = "the same command resumes where this one stopped"
    if isinstance(error, PrefectHTTPStatusError) and error.response.is_server_error:
        status = error.response.status_code
        remedy = "check that its database has room; then" if status == 500 else "is it one, and up? Once it is,"
        return f"the Prefect API at {settings.api.url} answered with status {status}: {remedy} {again}"
    if isinstance(error, ObjectNotFound):
        return f"the Prefect API at {settings.api.url} has no such run, as another has taken its place: {again}"
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
    """The server's process, replaced if it dies.

    Commands use it on a free port, which no other program takes for its own once it has ended. With `ui_port`, it is on
    that one too, for people, and found by the project's other commands.
    """

    startup_error = ""  # why it could not boot

    def __init__(self, port: int = 0, *, ui_port: int | None = None, schedules: bool = False) -> None:
        schedules |= ui_port is not None
        self.listeners = [listen(each, remedy=OTHER_PORT) for each in (port, ui_port) if each is not None]
        self.port = self.listeners[0].getsockname()[1]
        self.inherited = [listener.fileno() for listener in self.listeners]
        words = [*map(str, self.inherited), *(["schedules"] * schedules)]
        self.command = [sys.executable, "-m", "flows.prefect_server", *words]
        self.environment = ({} if schedules else SHORT_LIVED) | os.environ
        self.stopping = False
        self.lock = contextlib.ExitStack()
        if ui_port is not None:  # so that others find it; one that looks holds the lock for a moment
            self.lock.enter_context(try_lock(_home(), f"server-{ui_port}-{self.port}", timeout=1))
        self._start()
        atexit.register(self.stop)  # runs after Prefect's own exit handlers, which still send logs

    def _start(self) -> None:
        self.message = b""
        self.line, theirs = socket.socketpair()  # closing it tells the server to end; it carries the server's message
        with theirs:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                pass_fds=self.inherited,
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
                for listener in self.listeners:
                    listener.close()  # so that no client waits for it
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


def _find_lasting_server() -> tuple[str, int] | None:
    """Return the address of the server that holds this project's lock, if one does, and the port for commands."""
    for path in _home().glob("server-*-*.lock"):
        if is_alive(path.parent, path.stem):
            _, ui_port, port = path.stem.split("-")
            return f"http://127.0.0.1:{ui_port}", int(port)
    return None


def _replace_server(port: int) -> None:
    """Wait until nothing listens on `port`, and run the server there that this command and others have joined."""
    server = None
    while not server:
        time.sleep(1)
        with contextlib.suppress(OSError):  # it is there, or another command was faster
            server = _OwnServer(port, schedules=True)
    print("Prefect: the server that this command had joined has ended: it runs one itself now", file=sys.stderr)
    server.supervise()


def _port(address: str) -> int:
    return urlsplit(address).port or 80


def _home() -> Path:
    return Path(os.environ["PREFECT_HOME"]).expanduser()


def _use(url: str, ui: str) -> None:
    from prefect.context import refresh_global_settings_context

    os.environ |= {"PREFECT_API_URL": url, "PREFECT_UI_URL": ui}
    refresh_global_settings_context()
