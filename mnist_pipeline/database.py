"""The SQLite file that MLflow keeps runs in: looked after before MLflow opens it."""

import contextlib
import logging
import os
import sqlite3
from functools import cache
from pathlib import Path

import mlflow
from mlflow import MlflowClient

logger = logging.getLogger(__name__)

MIGRATIONS = Path(mlflow.__file__).parent / "store/db_migrations/versions"  # REVISION_WORDS.py, each naming the last
BUSY = 20  # seconds that another process may keep the database locked, as in MLflow
MOVED = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
WRITABLE = "make the file and its folder writable, or name another in MLFLOW_TRACKING_URI"


class StoreError(OSError):
    """The store cannot be used: which, why, and what to do."""


def uri_of(database: Path) -> str:
    """Name a database as MLflow wants it. Raises `StoreError` where its path has letters that MLflow misreads."""
    if odd := set("%?'") & set(str(database)):
        raise StoreError(f"MLflow takes no path with {' or '.join(odd)} in it, such as {database}: rename the folder")
    return f"sqlite:///{database}"


def create(database: Path) -> None:
    """Create `database`, whole or not at all: MLflow alone would leave half of a schema where it is killed."""
    partial = database.with_name(f".{database.name}.partial")
    partial.unlink(missing_ok=True)
    with contextlib.chdir(database.parent):  # where MLflow's own experiment would put its artifacts
        MlflowClient(uri_of(partial)).get_experiment("0")
    partial.replace(database)


def refuse_read_only(database: Path) -> None:
    """Raise `StoreError` where `database` is there, and cannot be written."""
    if database.exists() and not all(os.access(path, os.W_OK) for path in (database, database.parent)):
        raise StoreError(f"the database {database} is read-only: {WRITABLE}")


@cache
def look_after(database: Path) -> None:
    """Before MLflow opens `database`, refuse one that it could not use, and copy one that it would upgrade.

    Raises `StoreError`, with nothing done to it.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=BUSY)) as connection:
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise sqlite3.DatabaseError(finding)
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            _look_at_version(database, connection, revision)
    except (sqlite3.DatabaseError, TypeError) as error:
        raise StoreError(
            f"the database {database} is damaged, or not MLflow's ({error}): put a copy of it back, or move it away to "
            "start with an empty one; nothing was written to it"
        ) from None


def _look_at_version(database: Path, connection: sqlite3.Connection, revision: str) -> None:
    if not list(MIGRATIONS.glob(f"{revision}_*.py")):
        raise StoreError(
            f"the database {database} is of a newer MLflow than {mlflow.__version__} (version {revision}): install "
            "that, or name another database in MLFLOW_TRACKING_URI; nothing was written to it"
        )
    if not any(f'down_revision = "{revision}"' in file.read_text() for file in MIGRATIONS.glob("*.py")):
        return  # nothing came after it
    backup = database.with_name(f"{database.name}.{revision}.backup")
    partial = backup.with_suffix(".partial")
    with contextlib.closing(sqlite3.connect(partial)) as copy:
        connection.backup(copy)
    partial.replace(backup)
    logger.warning(f"{database} is of an older MLflow, and is upgraded; as it was, it is kept as {backup}")


def relocate(database: Path, before: str, now: str) -> None:
    """Let what `database` knows of the folder of artifacts follow, where it was moved from `before` to `now`.

    A folder that was copied is left alone, as long as the artifacts are still where they were.
    """
    if Path(before).exists() or not Path(now).exists():
        return
    with contextlib.closing(sqlite3.connect(database, timeout=BUSY)) as connection, connection:
        for table, column in MOVED.items():
            connection.execute(
                f"UPDATE {table} SET {column} = ?1 || substr({column}, ?2 + 1) "
                f"WHERE {column} = ?3 OR substr({column}, 1, ?2 + 1) = ?3 || '/'",
                (now, len(before), before),
            )
    logger.warning(f"The project was moved: the artifacts that were in {before} are looked for in {now}")
