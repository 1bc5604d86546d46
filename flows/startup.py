"""How a command starts and ends: quickly, and tidily. Nothing here changes what a flow does."""

import atexit
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn

from mnist_pipeline import process
from mnist_pipeline.environment import amend_environment

ENVIRONMENT = {  # unless it is set already
    "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": "tasks.console.Console",  # prints each error once
    "PREFECT_LOGGING_EXTRA_LOGGERS": "mnist_pipeline",  # the library's warnings are log lines of the run
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # those from before the run go to the console only
    # Not in the memory of a server: a run whose lease the next one does not know would be ended
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_UI_API_URL": "/api",  # of the server that the UI came from, whatever its port
}


def begin() -> None:
    """Let a signal end this command at once; it comes before the other imports."""
    process.begin()


def set_environment() -> None:
    """Set the environment of this process and of those that it starts, as `flows` does when it is imported."""
    from mnist_pipeline.config import ROOT

    amend_environment()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" not in os.environ:  # a checkout has a database of its own; profiles are the user's
        os.environ["PREFECT_HOME"] = str(ROOT / ".prefect")
        os.environ.setdefault("PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "events,flow_runs")  # after 90 days
        os.environ.setdefault("PREFECT_PROFILES_PATH", os.path.expanduser("~/.prefect/profiles.toml"))  # noqa: PTH111  # it never fails


def pause_gc() -> None:
    """Collect no garbage during imports: they make a million objects that live as long as the process.

    Looking for garbage among them would take a third of the time.
    """
    gc.disable()


def resume_gc() -> None:
    """Collect garbage again, but never look at what the imports made."""
    gc.freeze()
    gc.enable()


def quick_exit(report: Callable[[BaseException], int]) -> None:
    """Exit as soon as all exit handlers have run, with the exit code that `report` returns for an error.

    The interpreter would spend two seconds freeing its objects, which the end of the process does in no time. To end
    with another code than 0, raise an error: the one of `sys.exit` is not known here.
    """
    code = 0

    def report_error(_type: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
        nonlocal code
        code = 1
        code = report(error)

    atexit.register(lambda: exit_now(code))  # registered first, runs last
    sys.excepthook = report_error


def exit_now(code: int = 0) -> NoReturn:
    """End the process without freeing its objects, and without exit handlers."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever reads them is gone, or the disk is full
        code = code or 1
    os._exit(code)


def prepare() -> None:
    """Prepare the store, while the Prefect API still boots, and end what was only for the imports."""
    from mnist_pipeline.tracking import store

    with store.as_store_errors():
        store.prepare()
    resume_gc()
    quiet_console()


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Run a flow within the block: its runs are tagged with this process, so that the next one can close them."""
    from prefect import tags

    from mnist_pipeline.tracking import processes, store
    from tasks.track import stop_if_cancelled

    prepare()
    with process.stoppable():
        try:
            this_process = processes.process_id(store.in_progress_folder())
            with store.as_store_errors(), tags(this_process), stop_if_cancelled(this_process):
                yield
        except BaseException as error:
            processes.mark_crashed()  # Prefect's API may not have heard how the run ended
            if isinstance(error, SystemExit):  # some library's
                raise RuntimeError(f"the process was to be ended with {error.code}") from error
            raise


def quiet_console() -> None:
    """Keep the tracebacks of others off the console: the command reports an error in one line."""
    logging.raiseExceptions = False  # nor one for a line that the API does not accept
    for name in ("mlflow.store.db.utils", "sqlalchemy.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
