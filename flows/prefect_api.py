"""The Prefect API that lives as long as a command, where no other is named.

Prefect has no mode without an API server. The temporary one that it starts itself is slow, as the client imports the
whole server too, and fragile: a child in the same process group, it dies of the Ctrl-C that the run still has to be
told of, and outlives a SIGTERM. This one is started first and boots while the command's other imports load. It stands
in a session of its own, keeps Prefect's usual database, so that `prefect server start` shows its runs later, and leaves
when the command's end of a socket closes, whatever ended the command.

Run as a module it is that server (`python -m flows.prefect_api FD`), or a lasting one, with its UI and what turns
schedules into runs (`python -m flows.prefect_api`).
"""

import atexit
import contextlib
import gc
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

ENVIRONMENT = {
    "DO_NOT_TRACK": "true",  # Prefect's client and MLflow send no telemetry
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # nor does the server, whose telemetry locks a new database
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of each run that a tracking server has
    "PREFECT_LOGGING_EXTRA_LOGGERS": "mnist_pipeline",  # a word from the library is one of the run's log lines
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # one from before the run is for the console alone
    "PREFECT_UI_URL": "http://127.0.0.1:4200",  # where a lasting server listens (`make server`): links open there
    "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200,http://localhost:4200",  # not just any page
}
SHORT_LIVED = {
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",  # the command says what went wrong
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # a lasting server registers the types of blocks, which means
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",  # importing every installed integration, Dask among them
}
HOSTS = ["127.0.0.1", "localhost"]  # no other name reaches the API, whatever it resolves to

BOOTED = b"booted"
LONGEST_FAREWELL = 4  # seconds that the server may take to leave: for a locked database it would wait a minute


def ensure_prefect_api(*, schedules: bool = False) -> None:
    """Use the API that Prefect's settings name (`PREFECT_API_URL`), or this machine's lasting server, or start one.

    One that keeps `schedules` is, as long as it is up, the lasting server to the other commands, with its UI.
    """
    _set_environment()

    from prefect.settings import get_current_settings

    lasting = os.environ["PREFECT_UI_URL"]
    if not get_current_settings().api.url:
        if _answers(lasting):
            _use(f"{lasting}/api")
        else:
            _use(start_prefect_api(schedules=schedules, port=_lasting_port() if schedules else 0))
    if "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" not in os.environ:
        get_current_settings().flows.heartbeat_frequency = None  # it would end each run up to a second later


def start_prefect_api(*, schedules: bool = False, port: int = 0) -> str:
    """Start an API that ends with this process, on any free port unless one is named; return its URL.

    Returns at once: requests wait in the socket's queue until the server has booted. So they do when it dies and
    another takes its place.
    """
    server = _OwnServer(port, schedules=schedules)
    threading.Thread(target=server.keep_up, daemon=True).start()
    return f"http://127.0.0.1:{server.port}/api"


def stay_up() -> None:
    """Be the lasting server, with its UI and what turns schedules into runs, until a signal comes."""
    _set_environment()
    address = os.environ["PREFECT_UI_URL"]
    try:
        server = _OwnServer(_lasting_port(), schedules=True)
    except OSError as error:
        sys.exit(f"Prefect's server cannot listen on {address}: {error.strerror}; PREFECT_UI_URL names another port")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    print(f"Prefect's server is on {address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.keep_up()
    if server.why_not:
        sys.exit(f"Prefect's server cannot start: {server.why_not}")


def trouble_with_prefect(error: Exception) -> str | None:
    """Say in a line what is wrong with the API, if that is where `error` comes from."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    again = "the same command goes on where this one stopped"
    if isinstance(error, PrefectHTTPStatusError) and error.response.is_server_error:
        return f"the Prefect API at {settings.api.url} failed: see that its database has room; then {again}"
    if not (isinstance(error, httpx.TransportError) or "Failed to reach API" in str(error)):
        return None
    if _OwnServer.why_not:
        return (
            f"the Prefect API cannot start: {_OwnServer.why_not}; "
            f"its home {settings.home} (PREFECT_HOME) must be a folder that can be written, and prefect.db in it whole"
        )
    return f"the Prefect API at {settings.api.url} does not answer: once it does, {again}"


class _OwnServer:
    """The process that serves, and another in its place should it die."""

    why_not = ""  # it could not boot

    def __init__(self, port: int, *, schedules: bool) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.listener.getsockname()[1]
        inherited = str(self.listener.fileno())
        self.command = [sys.executable, "-m", "flows.prefect_api", inherited, *(["schedules"] * schedules)]
        self.environment = ({} if schedules else SHORT_LIVED) | os.environ
        self.stopping = False
        self._start()
        atexit.register(self.stop)  # runs after Prefect's own exit handlers, which still send logs

    def _start(self) -> None:
        self.word = b""
        self.line, theirs = socket.socketpair()  # its end is the sign to leave; it brings the server's word
        with theirs:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                pass_fds=[self.listener.fileno()],
                stdin=theirs.fileno(),
                start_new_session=True,  # spared by the terminal's Ctrl-C
            )

    def keep_up(self) -> None:
        while not self.stopping:
            while part := self.line.recv(4096):
                self.word += part
            if self.stopping:
                return
            if not self.word.startswith(BOOTED):
                _OwnServer.why_not = self.word.decode(errors="replace") or f"it ended with {self.process.wait()}"
                self.listener.close()  # nobody is to wait for it
                return
            self._start()

    def stop(self) -> None:
        self.stopping = True
        self.line.shutdown(socket.SHUT_RDWR)
        if self.word.startswith(BOOTED):  # one that is still booting, or creating its database, ends alone
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=LONGEST_FAREWELL + 1)


def _set_environment() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _lasting_port() -> int:
    return urlsplit(os.environ["PREFECT_UI_URL"]).port or 80


def _answers(server: str) -> bool:
    with contextlib.suppress(OSError, HTTPException):
        return bool(urllib.request.urlopen(f"{server}/api/health", timeout=2).read() == b"true")
    return False


def _use(url: str) -> None:
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()


def _serve(listener: socket.socket, *, schedules: bool) -> None:
    """Serve Prefect's API on `listener` until stdin ends, with what turns schedules into runs or without."""
    server = None

    def leave_with_parent() -> None:
        os.read(0, 1)
        if server is None:
            os._exit(0)
        server.should_exit = True
        if server.started:  # else it may be creating its database, and then leaves by itself
            time.sleep(LONGEST_FAREWELL)
            os._exit(0)

    threading.Thread(target=leave_with_parent, daemon=True).start()

    gc.disable()  # the imports make objects that live as long as the process
    import uvicorn
    from filelock import FileLock
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = TrustedHostMiddleware(create_app(ephemeral=not schedules, final=True), HOSTS)
    gc.freeze()
    gc.enable()
    config = uvicorn.Config(app, log_config=None, log_level="error", lifespan="on", timeout_graceful_shutdown=2)
    log = logging.getLogger("uvicorn.error")
    log.addHandler(_LastWords())
    log.propagate = False
    server = uvicorn.Server(config)
    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    booting = FileLock(home / "booting.lock", thread_local=False)  # of two that create the database at once, one dies
    booting.acquire()

    def ask_first() -> None:  # a client's first question, whose first answer takes a quarter of a second
        with contextlib.suppress(OSError, HTTPException):  # it does not boot
            urllib.request.urlopen(f"http://127.0.0.1:{listener.getsockname()[1]}/api/admin/version")
            booting.release()
            _tell(BOOTED)

    threading.Thread(target=ask_first, daemon=True).start()
    server.run(sockets=[listener])
    os._exit(0)  # spare the command the second that the interpreter would take to tidy up


class _LastWords(logging.Handler):
    """Why the server ends, for its parent: uvicorn logs the traceback, in which a line says it."""

    def emit(self, record: logging.LogRecord) -> None:
        if reasons := re.findall(r"^[\w.]+Error: .*", record.getMessage(), re.MULTILINE):
            _tell(reasons[-1].encode())


def _tell(word: bytes) -> None:
    with contextlib.suppress(OSError):  # the parent is gone
        os.write(0, word)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        stay_up()
        sys.exit()
    try:
        _serve(socket.socket(fileno=int(sys.argv[1])), schedules="schedules" in sys.argv[2:])
    except Exception as error:
        _tell(str(error).encode())
