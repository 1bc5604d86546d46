"""What is printed of Prefect's log: each error once, and without its traceback. All of it is on the flow run's page."""

import logging
import multiprocessing

from prefect.logging.handlers import PrefectConsoleHandler

FAILED = ("Finished in state Failed", "Finished in state Crashed")
NEEDLESS = (
    "View at ",  # the flow run's page, which opens only while a server with the UI is up
    "Finished in state Running",  # what was cancelled
)


class Console(PrefectConsoleHandler):
    """Prefect's handler, less what is better said elsewhere: a command ends with its error.

    `PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS` names it, so that the processes that a command starts use it too.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print `record`, unless it is needless."""
        message = record.getMessage()
        if record.name in ("prefect.flow_runs", "prefect.task_runs"):
            failed = record.name == "prefect.flow_runs" and message.startswith(FAILED)
            served = multiprocessing.parent_process() is not None  # the run of a schedule, which has no other last word
            if not (failed and served) and (failed or record.levelno >= logging.ERROR or message.startswith(NEEDLESS)):
                return
        record.exc_info = record.exc_text = None  # the API's handler, on the inner logger, has it already
        super().emit(record)
