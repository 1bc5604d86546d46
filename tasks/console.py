"""What is printed of Prefect's log: each error once, and without its traceback. All of it is on the flow run's page."""

import contextlib
import logging
import multiprocessing
import sys
from typing import Any

from prefect.logging.handlers import PrefectConsoleHandler

ENDED = "Finished in state "
CANCELLED = "Finished in state Running"  # Prefect's word for it
SERVICES = "prefect._internal.concurrency"  # prints all of an event that it could not send; prefect.events says so
NEEDLESS = (
    "View at ",  # the flow run's page, which opens only while a server with the UI is up
    "Running hook ",  # of the webhook, which speaks up if it fails
    "Hook ",
)


class Terminal:
    """Standard error for what draws on it, as long as someone sees it: a run goes on when its terminal is closed."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Console(PrefectConsoleHandler):
    """Prefect's handler, without what is better said elsewhere: a command ends with its result, or its error.

    `PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS` names it, so that the processes that a command starts use it too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.console.on_broken_pipe = self._fall_silent  # type: ignore[method-assign]  # rich's own ends the process

    def _fall_silent(self) -> None:
        """Let the run go on although nobody reads its output any more."""
        self.console.quiet = True

    def emit(self, record: logging.LogRecord) -> None:
        """Print `record`, unless it is needless."""
        from_run = record.name in ("prefect.flow_runs", "prefect.task_runs")
        if record.name == SERVICES or (from_run and self._is_needless(record)):
            return
        record.exc_info = record.exc_text = None  # the API's handler, on the inner logger, has it already
        super().emit(record)

    def _is_needless(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.name == "prefect.flow_runs" and message.startswith(ENDED):
            served = multiprocessing.parent_process() is not None  # the run of a schedule, which has no other last word
            return not served or message.startswith(CANCELLED)
        return record.levelno >= logging.ERROR or message.startswith(NEEDLESS)
