"""What has not come to its end: a lock for each process that is at work, a checkpoint for each training.

Both stand in one folder beside the database. The system lets go of a lock when its process dies, whatever killed it: a
lock that can be taken shows a process that had no time to tidy up.
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

KEPT_FOR = 7 * 24 * 3600  # seconds that an interrupted training can still be gone on with


def this_process(folder: Path) -> str:
    """Name this process, and hold its lock until it ends."""
    return Path(_own_lock(folder).lock_file).stem


def leave_to_the_next() -> None:
    """Leave this process's name behind as if it had been killed: the next one closes what this one may not have."""
    atexit.unregister(_withdraw)


def is_alive(folder: Path, process: str) -> bool:
    """Say whether the process of that name is still at work."""
    path = folder / f"{process}.lock"
    if not path.exists():
        return False
    with _try_lock(path) as dead:
        return not dead


def dead_processes(folder: Path) -> Iterator[str]:
    """Name the processes that left their name behind, each to one asker only, and forget each that was dealt with."""
    for path in sorted(folder.glob("process-*.lock")):
        with _try_lock(path) as dead:
            if dead:
                yield path.stem
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path, at: str) -> Iterator[bool]:
    """Say whether this process is the only one of this machine that is `at` it, and keep the others out meanwhile."""
    path = folder / f"{at}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    with _try_lock(path) as alone:
        try:
            yield alone
        finally:
            if alone:
                path.unlink()  # while it is held: who waits for it looks again


def checkpoint(folder: Path, fingerprint: str, run_id: str) -> Path:
    """Say where the training of the MLflow run `run_id` keeps its checkpoint."""
    return folder / f"{fingerprint[:16]}-{run_id}.checkpoint"


def interrupted(folder: Path, fingerprint: str) -> list[str]:
    """Name the MLflow runs with that fingerprint that left a checkpoint, the latest first; drop those too old."""
    for path in folder.glob("*.checkpoint"):
        if path.stat().st_mtime < time.time() - KEPT_FOR:
            path.unlink(missing_ok=True)
    paths = sorted(folder.glob(f"{fingerprint[:16]}-*.checkpoint"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.stem.partition("-")[2] for path in paths]


@contextlib.contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    """Take the lock if it can be had at once, say whether it could, and hold it meanwhile."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@cache  # which keeps it: a lock that nobody refers to is let go
def _own_lock(folder: Path) -> FileLock:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"process-{os.getpid()}-{uuid4().hex[:8]}.lock")
    lock.acquire()
    atexit.register(_withdraw, lock)
    return lock


def _withdraw(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
