"""Which processes are alive, and which trainings were interrupted: a lock per process, a checkpoint per training.

Both are kept in one folder beside the database. The operating system releases a lock when its process dies, whatever
killed it: a lock that can be taken shows a process that had no time to clean up.
"""

import atexit
import contextlib
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

KEEP_FOR = 7 * 24 * 3600  # seconds in which an interrupted training can be resumed


def process_id(folder: Path) -> str:
    """Return a unique name for this process, whose lock it holds until it ends."""
    return Path(_own_lock(folder).lock_file).stem


def mark_crashed() -> None:
    """Leave this process's lock file behind as if it had been killed, so that the next one closes its runs."""
    atexit.unregister(_remove_lock)


def is_alive(folder: Path, process: str) -> bool:
    """Return whether the process of that name is still running."""
    path = folder / f"{process}.lock"
    if not path.exists():
        return False
    with _acquire(path) as acquired:
        return not acquired


def dead_processes(folder: Path) -> Iterator[str]:
    """Yield the names of processes that did not clean up, each to one caller only, and forget each afterwards."""
    for path in sorted(folder.glob("process-*.lock")):
        with _acquire(path) as acquired:
            if acquired:
                yield path.stem
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def try_lock(folder: Path, name: str, *, timeout: float = 0) -> Iterator[bool]:
    """Try to take the lock of that `name` for `timeout` seconds; yield whether it was free, and hold it meanwhile."""
    path = folder / f"{name}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    with _acquire(path, timeout) as acquired:
        try:
            yield acquired
        finally:
            if acquired:
                path.unlink()  # while it is held: whoever waits for it looks again


def checkpoint_path(folder: Path, fingerprint: str, run_id: str) -> Path:
    """Return where the training of an MLflow run keeps its checkpoint."""
    return folder / f"{fingerprint[:16]}-{run_id}.checkpoint"


def interrupted_runs(folder: Path, fingerprint: str) -> list[str]:
    """Return the MLflow runs with that fingerprint that left a checkpoint, the latest first; delete those too old."""
    found = []
    for path in folder.glob("*.checkpoint"):
        with contextlib.suppress(FileNotFoundError):  # its training has just ended
            saved = path.stat().st_mtime
            if saved < time.time() - KEEP_FOR:
                path.unlink()
            elif path.name.startswith(fingerprint[:16]):
                found.append((saved, path.stem.partition("-")[2]))
    return [run_id for _, run_id in sorted(found, reverse=True)]


@contextlib.contextmanager
def _acquire(path: Path, timeout: float = 0) -> Iterator[bool]:
    lock = FileLock(path, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@cache  # which also keeps a reference: a lock that is garbage collected is released
def _own_lock(folder: Path) -> FileLock:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"process-{os.getpid()}-{uuid4().hex[:8]}.lock")
    lock.acquire()
    atexit.register(_remove_lock, lock)
    return lock


def _remove_lock(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
