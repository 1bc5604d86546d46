"""How each of our processes starts and ends, and what a signal does."""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mnist_pipeline.environment import amend_environment

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last when the terminal is closed
SHUTDOWN_TIMEOUT = 6  # seconds that a process may take to end tidily
RAISE_AGAIN = 0.01  # seconds after which `Stopped` is raised again if nothing came of it

_groups: set[int] = set()  # of the processes that `run` has started


def python_command() -> str:
    """Return how this Python is called from the current folder: by its path, unless `python` is this one."""
    python, here = Path(sys.executable), Path.cwd()
    if shutil.which("python") == str(python):
        return "python"
    return shlex.quote(str(python.relative_to(here) if python.is_relative_to(here) else python))


class Stopped(KeyboardInterrupt):
    """Someone stopped this process: by a signal, or in Prefect."""

    def __init__(self, message: str = "stopped", *, code: int = 128 + signal.SIGINT) -> None:
        super().__init__(message)
        self.code = code


def begin() -> None:
    """Amend the environment, and let a signal end this process at once: there is nothing yet to end tidily.

    A command begins with this, before its other imports.
    """
    handle_signals(exit_at_once)
    amend_environment()


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` within the block when a signal comes; exit at once after a second one, or a slow end.

    A signal may come while Python runs a finaliser or a callback of the garbage collector, or SQLAlchemy puts a
    connection back, which swallow what is raised in them: it is raised again until it is on its way out.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        handle_signals(exit_at_once)
        watchdog = threading.Timer(SHUTDOWN_TIMEOUT, exit_at_once, (number,))
        watchdog.daemon = True
        watchdog.start()

        def raise_again(*_: object) -> None:
            if not _comes_of_stopped(sys.exception()):
                raise Stopped(code=128 + number)

        sys.unraisablehook = partial(_report_unless_stopped, sys.unraisablehook)
        for handler in filter(None, (*logging.root.handlers, logging.lastResort)):
            handler.addFilter(_is_no_stop)
        signal.signal(signal.SIGALRM, raise_again)
        signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN, RAISE_AGAIN)
        raise Stopped(code=128 + number)

    handle_signals(stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        handle_signals(exit_at_once)


def run(command: list[str]) -> int:
    """Run `command` until it ends or a signal comes, and then all that it has started; return its exit code."""
    unblock = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS)
    with stoppable():
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it is known what to end
        process = subprocess.Popen(command, start_new_session=True, preexec_fn=unblock)
        _groups.add(process.pid)
        try:
            unblock()
            return process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing of it is left
                for number in (signal.SIGTERM, *[0] * 30, signal.SIGKILL):  # 0 only asks whether it is still there
                    os.killpg(process.pid, number)
                    time.sleep(0.1)
                    process.poll()


def exit_at_once(number: int, _frame: FrameType | None = None) -> NoReturn:
    """End this process, and those that it started by `run` and by multiprocessing, without exit handlers."""
    for child in getattr(sys.modules.get("multiprocessing"), "active_children", list)():
        child.kill()
    for group in _groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    if sys.__stderr__:
        with contextlib.suppress(OSError):
            os.write(2, f"{sys.argv[0]}: stopped\n".encode())
    os._exit(128 + number)


def _report_unless_stopped(report: Callable[[Any], object], unraisable: Any) -> None:
    if not _comes_of_stopped(unraisable.exc_value):
        report(unraisable)


def _is_no_stop(record: logging.LogRecord) -> bool:
    """Return whether a record is of anything else than `Stopped`, which whoever swallows it may log."""
    return not (record.exc_info and _comes_of_stopped(record.exc_info[1]))


def _comes_of_stopped(error: BaseException | None) -> bool:
    """Return whether `error` is `Stopped`, or was raised while that was handled."""
    while error and not isinstance(error, Stopped):
        error = error.__context__
    return error is not None


def handle_signals(
    handler: Callable[[int, FrameType | None], None], numbers: Sequence[signal.Signals] = SIGNALS
) -> None:
    """Let `handler` handle the signals in `numbers`, except that a closed terminal is still ignored if it was."""
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, handler)
