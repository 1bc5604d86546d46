"""The log's writer: a thread that keeps what was answered, off the path of the requests."""

import logging
import sqlite3
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

from mnist_pipeline.monitoring.fetch import existing_log
from mnist_pipeline.monitoring.log import FILE, KEEP, NotALogError, ServedLog
from mnist_pipeline.monitoring.served import Served
from mnist_pipeline.text import counted

logger = logging.getLogger("uvicorn.error")

INTERVAL = 0.5  # seconds between two commits: a kill loses no more
MAX_BACKLOG = 10_000  # images that wait for a disk that is full or busy; some 20 MB of MNIST's
BATCH = 2000  # images in a commit


class LogWriter:
    """Keeps answers in a `ServedLog`. If they cannot be written, they wait; if too many wait, new ones are dropped."""

    def __init__(self, file: Path = FILE, *, keep: int = KEEP) -> None:
        """Open the log. Raises `NotALogError` if `file` is something else; one that cannot be opened is tried again."""
        self.file, self.keep = file, keep
        self.dropped = 0
        self._log: ServedLog | None = None
        self._failed = False
        self._left = (0, 0)  # the file's size and time, as this process left it
        self._waiting: deque[Served] = deque()
        self._corrections: deque[tuple[Future[None], str, str]] = deque()
        self._unsaid: list[str] = []  # before the server's logging is set up
        self._wake, self._closing = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._report(error)

    @property
    def backlog(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        self._thread.start()
        for text in self._unsaid:
            logger.warning(text)

    def append(self, served: Sequence[Served]) -> bool:
        """Keep answers, soon; return whether there is room for them."""
        if len(self._waiting) + len(served) > MAX_BACKLOG:
            self.dropped += len(served)
            return False
        self._waiting.extend(served)
        return True

    def correct(self, answer: str, label: str) -> "Future[None]":
        """Record what an image was; done once that is on disk, or with the error of `ServedLog.correct`."""
        future: Future[None] = Future()
        self._corrections.append((future, answer, label))
        self._wake.set()
        return future

    def copy(self) -> BinaryIO:
        """Return an open file with what is on disk by now. Raises `ValueError`, `sqlite3.Error` or `OSError`."""
        with tempfile.TemporaryDirectory() as folder, existing_log(str(self.file)) as log:
            copy = Path(folder) / self.file.name
            log.copy(copy)
            return copy.open("rb")  # which is deleted with its folder, and gone once it is closed

    def close(self) -> None:
        """Write what waits, and stop."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=10)
        if self._waiting:
            logger.warning(f"{counted(len(self._waiting), 'answer')} could not be kept in {self.file}")

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(INTERVAL)
            self._wake.clear()
            self._flush()
        self._flush()
        if self._log:
            self._log.close()

    def _flush(self) -> None:
        futures = [self._corrections.popleft() for _ in range(len(self._corrections))]  # of answers that wait
        corrections = [each for each in futures if each[0].set_running_or_notify_cancel()]
        batch: list[Served] = []
        try:
            log = self._open()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
                log = self._open()  # for each batch, as the file may be deleted meanwhile
                log.append(batch)
                batch, self._left = [], self._stamp()
            while corrections:
                future, answer, label = corrections[0]
                try:
                    log.correct(answer, label)
                    future.set_result(None)
                except (LookupError, ValueError) as error:
                    future.set_exception(error)
                del corrections[0]
            self._left = self._stamp()
            self._report(None)
        except (sqlite3.Error, OSError, NotALogError) as error:
            self._waiting.extendleft(reversed(batch))
            self._report(error)
            for future, _, _ in corrections:  # none waits once more for a file that another program has locked
                future.set_exception(OSError(f"the log cannot be written: {error}"))

    def _open(self) -> ServedLog:
        is_gone = self._log and not self._log.is_there()
        if is_gone:
            next_one = "writing goes on in its place" if self.file.exists() else "a new one is begun"
            self._warn(f"The log {self.file} was moved, deleted, emptied or replaced: {next_one}")
        if self._log and (is_gone or self._stamp() != self._left):  # someone else has written to it, or another over it
            gone, self._log = self._log, None
            gone.close()
        if not self._log:
            self._log = ServedLog(self.file, keep=self.keep, replace_damaged=True)
            if self._log.moved:
                self._warn(f"The log was damaged, and is now {self._log.moved}; a new one is begun")
            self._log.trim()
            self._left = self._stamp()
        return self._log

    def _stamp(self) -> tuple[int, int]:
        found = self.file.stat()
        return found.st_size, found.st_mtime_ns

    def _report(self, error: Exception | None) -> None:
        """Report once that the log cannot be written, and once that it can be again."""
        if error and not self._failed:
            self._warn(f"The log {self.file} cannot be written ({error}): requests are answered, and wait to be kept")
        elif self._failed and not error:
            self._warn(f"The log is written again; {counted(self.dropped, 'answer')} could not be kept so far")
        self._failed = bool(error)

    def _warn(self, text: str) -> None:
        if self._thread.ident:
            logger.warning(text)
        else:
            self._unsaid.append(text)
