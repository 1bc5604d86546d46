"""The log of what was served: one SQLite file with each answered image, its answer, and its correction."""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mnist_pipeline.config import ROOT
from mnist_pipeline.monitoring.served import Review, Served, from_row, time_text, to_row
from mnist_pipeline.spreadsheet import meant

FILE = ROOT / "served.db"
KEEP = 100_000  # images
APPLICATION_ID = 0x6D6E6C67  # by which the file is known as ours
BUSY_TIMEOUT = 5  # seconds that another process may keep the file locked
SETTLE = 5  # seconds for which a file that is empty or damaged may yet be a copy that is being written
EVICTED, VACUUMED = 1000, 500  # images, pages of 4 kB: at most so many at once, so that no write takes long
ACCEPTED = "review = 'accepted'"  # what is evicted last
TABLE = f"""
PRAGMA auto_vacuum = incremental;
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE IF NOT EXISTS predictions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    time TEXT NOT NULL,               -- UTC, when it was answered
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    source TEXT NOT NULL,             -- page, picture or array
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    pixels BLOB NOT NULL,             -- uint8, row by row: the network's input
    classes TEXT NOT NULL,            -- JSON
    probabilities BLOB NOT NULL,      -- float32, in the order of the classes
    label TEXT NOT NULL,              -- the likeliest class
    confidence REAL NOT NULL,
    unsure INTEGER NOT NULL,          -- 1 if the answer was that the model does not know
    warning TEXT,                     -- of the reader
    seconds REAL NOT NULL,            -- that the whole request took, without its way here and back
    correct TEXT,                     -- the class that it was, as someone says
    corrected TEXT,                   -- UTC, when they said so
    review TEXT NOT NULL DEFAULT ''   -- accepted or rejected
);
CREATE INDEX IF NOT EXISTS eviction ON predictions ({ACCEPTED}, number);
COMMIT;
"""


class NotALogError(ValueError):
    """A file that is no log of served predictions; nothing was written to it."""


class ServedLog:
    """The file of what was served. One process may write to it while others read it and review its corrections."""

    def __init__(
        self, file: Path = FILE, *, keep: int = KEEP, replace_damaged: bool = False, name: str | None = None
    ) -> None:
        """Open `file`, or create it; at most `keep` images are kept in it. Messages call it by its `name`, or its path.

        With `replace_damaged`, one that is damaged is moved aside, as `moved` then says. Raises `NotALogError` if it is
        damaged or something else, and `sqlite3.OperationalError` if it cannot be opened now, or is being written.
        """
        self.file, self.keep, self.name = file, keep, name or str(file)
        self.moved: Path | None = None
        self._connection = self._open(replace_damaged)
        self._inode = file.stat().st_ino

    def close(self) -> None:
        self._connection.close()

    def is_there(self) -> bool:
        """Return whether the file is still the one that was opened: SQLite goes on with one that was moved away."""
        with contextlib.suppress(FileNotFoundError):
            found = self.file.stat()
            return found.st_ino == self._inode and found.st_size > 0
        return False

    def copy(self, file: Path) -> None:
        """Write what is kept by now to `file`, whole, while others write."""
        with contextlib.closing(sqlite3.connect(file)) as copy:
            self._connection.backup(copy)

    def append(self, served: Sequence[Served]) -> None:
        """Add answers, all or none. The oldest make room for them: first those without an accepted correction.

        One that is there already is left as it is: a commit may be on disk although it ended in an error.
        """
        rows = [*map(to_row, served)]
        with self._connection as connection:
            columns, values = ", ".join(rows[0]), ", ".join(f":{name}" for name in rows[0])
            insert = f"INSERT INTO predictions ({columns}) VALUES ({values}) ON CONFLICT (id) DO NOTHING"
            connection.executemany(insert, rows)
            self._evict(max(EVICTED, 2 * len(rows)))
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        if free > VACUUMED:  # fewer are soon used again
            self._connection.executescript(f"PRAGMA incremental_vacuum({VACUUMED})")  # execute would free one page

    def trim(self) -> None:
        """Delete all that is beyond `keep`, at once."""
        evicted = -1
        while evicted:
            with self._connection:
                evicted = self._evict(EVICTED)
        self._connection.executescript("PRAGMA incremental_vacuum")

    def correct(self, answer: str, label: str) -> None:
        """Record that the image whose answer has that id was a `label`, in place of what was said of it before.

        Raises `LookupError` if there is no such image, `ValueError` if there is no such class or the image's
        correction has been reviewed.
        """
        found = self._connection.execute("SELECT classes, review FROM predictions WHERE id = ?", (answer,)).fetchone()
        if not found:
            raise LookupError(f"no answer that is kept has the id {answer[:40]!r}")
        classes, review = json.loads(found[0]), found[1]
        if label not in classes:
            raise ValueError(f"the label must be one of {', '.join(classes)}, not {label[:40]!r}")
        if review:
            raise ValueError("what this image was has been reviewed already")
        with self._connection as connection:
            connection.execute(
                "UPDATE predictions SET correct = ?, corrected = ? WHERE id = ? AND review = ''",
                (label, time_text(datetime.now(UTC)), answer),
            )

    def since(self, time: datetime | None = None, *, model: str | None = None) -> Iterator[Served]:
        """Yield what was answered since `time`, of one `model` or of all, the oldest first."""
        conditions, values = "time >= ? AND ? IN (model, '')", (time_text(time) if time else "", model or "")
        yield from self._select(conditions, values)

    def corrections(self, *reviews: Review) -> list[Served]:
        """Return the images of which someone said what they were; of these, those with one of `reviews`, if any."""
        return [each for each in self._select("correct IS NOT NULL") if each.review in reviews or not reviews]

    def review(self, decisions: Mapping[str, tuple[Review, str]]) -> int:
        """Accept or reject corrections, by the images' ids, if they are still of the labels that were reviewed.

        Return how many there were.
        """
        values = [(review, answer, label) for answer, (review, label) in decisions.items()]
        return self._change("UPDATE predictions SET review = ? WHERE id = ? AND correct = meant(?, classes)", values)

    def withdraw(self, ids: Iterable[str]) -> int:
        """Take corrections back, reviewed or not, by the images' ids; return how many there were."""
        change = (
            "UPDATE predictions SET correct = NULL, corrected = NULL, review = ? WHERE id = ? AND correct IS NOT NULL"
        )
        return self._change(change, [("", answer) for answer in ids])

    def _evict(self, at_most: int) -> int:
        """Delete some of what is beyond `keep`; return how many.

        The latest accepted corrections are spared, as long as these are no more than half: new answers must find room.
        """
        (kept,) = self._connection.execute("SELECT count(*) FROM predictions").fetchone()
        surplus: int = min(max(0, kept - self.keep), at_most)
        if surplus:
            count = f"SELECT count(*) FROM predictions WHERE ({ACCEPTED}) = 1"
            (accepted,) = self._connection.execute(count).fetchone()
            oldest = "SELECT * FROM (SELECT number FROM predictions WHERE ({}) = {} ORDER BY number LIMIT ?)"
            either = f"{oldest.format(ACCEPTED, 0)} UNION ALL {oldest.format(ACCEPTED, 1)} ORDER BY 1 LIMIT ?"
            spared = (surplus, max(0, accepted - self.keep // 2), surplus)
            self._connection.execute(f"DELETE FROM predictions WHERE number IN ({either})", spared)
        return surplus

    def _change(self, statement: str, values: Sequence[tuple[str, ...]]) -> int:
        self._check()
        with self._connection as connection:
            return connection.executemany(statement, values).rowcount

    def _check(self) -> None:
        if not self.is_there():
            raise OSError(f"{self.name} was moved or deleted since it was opened: open it anew")

    def _select(self, conditions: str, values: tuple[str, ...] = ()) -> Iterator[Served]:
        number = 0
        self._check()
        while True:  # in parts: a long reading would keep the server from writing
            query = f"SELECT * FROM predictions WHERE number > ? AND {conditions} ORDER BY number LIMIT 1000"
            rows = self._connection.execute(query, (number, *values)).fetchall()
            if not rows:
                return
            try:
                served = [*map(from_row, rows)]
            except (ValueError, TypeError) as error:
                raise NotALogError(f"{self.name} has damaged rows ({error})") from None
            yield from served
            number = rows[-1]["number"]

    def _open(self, replace_damaged: bool) -> sqlite3.Connection:
        try:
            if replace_damaged and self.file.exists() and not self.file.stat().st_size:
                _check_is_settled(self.file)
            connection = self._connect()
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            if application_id == APPLICATION_ID:
                if _is_whole(connection):
                    if replace_damaged:  # no write-ahead log, whose file SQLite would apply to one that replaces this
                        connection.execute("PRAGMA journal_mode = delete").fetchone()
                    return connection
                connection.close()
                if not replace_damaged:
                    raise sqlite3.DatabaseError("it is damaged; the server moves it aside when it starts")
                _check_is_settled(self.file)
                self.moved = _move_aside(self.file)
                connection = self._connect()
            elif connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("it is another program's database, which nothing was written to")
            connection.executescript(TABLE)
            return connection
        except sqlite3.OperationalError:  # it cannot be opened now: the disk is full, or it is locked
            raise
        except sqlite3.DatabaseError as error:
            raise NotALogError(f"{self.name} is no log of served predictions: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, timeout=BUSY_TIMEOUT, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.create_function("meant", 2, lambda cell, classes: meant(cell, json.loads(classes)))
        return connection


def _is_whole(connection: sqlite3.Connection) -> bool:
    try:
        return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False


def _check_is_settled(file: Path) -> None:
    """Raise `sqlite3.OperationalError` if `file` was written a moment ago, as by a program that copies one to it."""
    if 0 <= time.time() - file.stat().st_mtime < SETTLE:
        raise sqlite3.OperationalError("it is not whole: another program may be writing it")


def _move_aside(file: Path) -> Path:
    """Rename a damaged file and its journals; return its new name. `sqlite3 FILE .recover` may still read it."""
    moved = file.with_name(f"{file.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
    for suffix in ("-journal", "-wal", "-shm", ""):  # the file last: if this is interrupted, it is tried again
        with contextlib.suppress(FileNotFoundError):
            Path(f"{file}{suffix}").rename(f"{moved}{suffix}")
    return moved
