"""How a command's process starts and ends: quickly, and tidily. Nothing here changes what a flow does."""

import atexit
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn

ENVIRONMENT = {  # unless it is set already
    "DO_NOT_TRACK": "true",  # Prefect's client and MLflow send no telemetry
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # nor does the server, whose telemetry locks a new database
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of each run on a tracking server
    "PREFECT_LOGGING_EXTRA_LOGGERS": "mnist_pipeline",  # the library's warnings are log lines of the run
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # those from before the run go to the console only
    "PREFECT_UI_URL": "http://127.0.0.1:4200",  # where a lasting server listens (`make server`): links open there
    "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200,http://localhost:4200",  # not just any page
}


def set_environment() -> None:
    """Set `ENVIRONMENT`, before Prefect and MLflow are imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


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

    The interpreter would spend two seconds freeing its objects, which the end of the process does in no time. SIGTERM
    exits in the same way, handlers and all.
    """
    code = 0

    def report_error(_type: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
        nonlocal code
        code = 1
        code = report(error)

    def terminate(*_: object) -> None:
        nonlocal code
        code = 128 + signal.SIGTERM
        sys.exit(code)

    atexit.register(lambda: exit_now(code))  # registered first, runs last
    sys.excepthook = report_error
    signal.signal(signal.SIGTERM, terminate)


def exit_now(code: int = 0) -> NoReturn:
    """End the process without freeing its objects, and without exit handlers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def prepare() -> None:
    """Prepare the store, while the Prefect API still boots, and end what was only for the imports."""
    from mnist_pipeline.tracking import store

    with store.as_store_errors():
        store.prepare()
    resume_gc()
    _quiet_console()


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Run a flow within the block: its runs are tagged with this process, so that the next one can close them."""
    from prefect import tags

    from mnist_pipeline.tracking import processes, store

    prepare()
    try:
        with store.as_store_errors(), tags(processes.process_id(store.in_progress_folder())):
            yield
    except BaseException:
        processes.mark_crashed()  # Prefect's API may not have heard how the run ended
        raise


def _quiet_console() -> None:
    """Keep tracebacks off the console: Prefect logs two for each error, and its API keeps them.

    The command itself reports an error in one line, or with Python's own traceback if it is not the user's.
    """

    def drop_traceback(record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None  # the API's handler, on the inner logger, has it already
        return True

    logging.raiseExceptions = False  # nor one for a line that the API does not accept
    for name in ("mlflow.store.db.utils", "sqlalchemy.pool"):  # which log some of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.addFilter(drop_traceback)
