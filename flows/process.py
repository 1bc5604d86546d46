"""How a command's process starts and ends: quickly, and tidily. None of it changes what a flow does."""

import atexit
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator

from flows.prefect_api import ensure_prefect_api


@contextlib.contextmanager
def importing(*, schedules: bool = False) -> Iterator[None]:
    """Start the Prefect API, and let the imports within, and MLflow's database, be made while it boots.

    The imports make a million objects that live as long as the process: looking again and again for garbage among them
    would take a third of the time.
    """
    gc.disable()
    ensure_prefect_api(schedules=schedules)
    yield
    from mnist_pipeline.store import plain_errors, prepare

    with plain_errors():
        prepare()
    gc.freeze()
    gc.enable()
    _keep_tracebacks_off_the_console()


@contextlib.contextmanager
def naming_this_process() -> Iterator[None]:
    """Let the flow runs within bear this process's name from their first moment: who finds it dead closes them."""
    from prefect import tags

    from mnist_pipeline.store import plain_errors, unfinished_folder
    from mnist_pipeline.unfinished import this_process

    with plain_errors(), tags(this_process(unfinished_folder())):
        yield


@contextlib.contextmanager
def exiting_at_once() -> Iterator[None]:
    """Exit as soon as all exit handlers have run, with the code that `sys.exit` is called with within, or 1.

    The interpreter would spend two seconds taking its objects apart, which the end of the process does in no time.
    SIGTERM exits in the same way, handlers and all.
    """
    code = 1

    def exit_at_once() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(exit_at_once)  # registered first, runs last
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
        raise
    code = 0


def _keep_tracebacks_off_the_console() -> None:
    """Prefect logs a traceback for the task and one for the flow: its API keeps them, and here one line says it all.

    An error that is not the user's still ends in Python's own traceback.
    """

    def shorten(record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None  # the API's handler, on the inner logger, has had its turn
        return True

    logging.raiseExceptions = False  # a line that the API does not take adds none either
    for name in ("mlflow.store.db.utils", "sqlalchemy.pool"):  # which add some of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.addFilter(shorten)
