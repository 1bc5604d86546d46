"""The Prefect API that lives as long as a command, where no other is named.

Prefect has no mode without an API server. The temporary one that it starts itself is slow, as the client imports the
whole server too, and fragile: a child in the same process group, it dies of the Ctrl-C that the run still has to be
told of, and outlives a SIGTERM. This one is started first and boots while the command's other imports load. It stands
in a session of its own, keeps Prefect's usual database, so that `prefect server start` shows its runs later, and leaves
when the command's end of a pipe closes, whatever ended the command.

Run as a module (`python -m flows.prefect_api FD`) it is that server.
"""

import atexit
import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

ENVIRONMENT = {
    "DO_NOT_TRACK": "true",  # Prefect's client and MLflow send no telemetry
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # nor does the server, whose telemetry locks a new database
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of each run that a tracking server has
    "PREFECT_LOGGING_EXTRA_LOGGERS": "mnist_pipeline",  # a word from the library is one of the run's log lines
    "PREFECT_UI_URL": "http://127.0.0.1:4200",  # where a lasting server listens (`make server`): links open there
}


def ensure_prefect_api(*, schedules: bool = False) -> None:
    """Use the API that Prefect's settings name (`PREFECT_API_URL`), or this machine's lasting server, or start one.

    One that keeps `schedules` is, as long as it is up, the lasting server to the other commands, with its UI.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)

    from prefect.settings import get_current_settings

    lasting = os.environ["PREFECT_UI_URL"]
    if not get_current_settings().api.url:
        if _answers(lasting):
            _use(f"{lasting}/api")
        else:
            _use(start_prefect_api(schedules=schedules, port=urlsplit(lasting).port or 80 if schedules else 0))
    if "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" not in os.environ:
        get_current_settings().flows.heartbeat_frequency = None  # it would end each run up to a second later


def start_prefect_api(*, schedules: bool = False, port: int = 0) -> str:
    """Start an API that ends with this process, on any free port unless one is named; return its URL.

    Returns at once: requests wait in the socket's queue until the server has booted.
    """
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        port = listener.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "flows.prefect_api", str(listener.fileno()), *(["schedules"] if schedules else [])],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,  # its end is the sign to leave
            start_new_session=True,  # spared by the terminal's Ctrl-C
        )
    atexit.register(_stop, server)  # runs after Prefect's own exit handlers, which still send logs
    return f"http://127.0.0.1:{port}/api"


def _answers(server: str) -> bool:
    with contextlib.suppress(OSError, HTTPException):
        return bool(urllib.request.urlopen(f"{server}/api/health", timeout=2).read() == b"true")
    return False


def _use(url: str) -> None:
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()


def _stop(server: "subprocess.Popen[bytes]") -> None:
    assert server.stdin
    server.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):  # a first start that is still creating the database ends alone
        server.wait(timeout=5)


def _serve(listener: socket.socket, *, schedules: bool) -> None:
    """Serve Prefect's API on `listener` until stdin ends, with what turns schedules into runs or without."""
    server = None

    def leave_with_parent() -> None:
        sys.stdin.buffer.read()
        if server is None:
            os._exit(0)
        server.should_exit = True

    threading.Thread(target=leave_with_parent, daemon=True).start()

    gc.disable()  # the imports make objects that live as long as the process
    import uvicorn
    from filelock import FileLock
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    app = create_app(ephemeral=not schedules, final=True)
    gc.freeze()
    gc.enable()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=2))
    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    booting = FileLock(home / "booting.lock", thread_local=False)  # of two that create the database at once, one dies
    booting.acquire()

    def ask_first() -> None:  # a client's first question, whose first answer takes a quarter of a second
        urllib.request.urlopen(f"http://127.0.0.1:{listener.getsockname()[1]}/api/admin/version")
        booting.release()

    threading.Thread(target=ask_first, daemon=True).start()
    server.run(sockets=[listener])
    os._exit(0)  # spare the command the second that the interpreter would take to tidy up


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), schedules="schedules" in sys.argv[2:])
