"""The SQLite file that MLflow keeps runs in: created whole, and checked before MLflow opens it."""

import contextlib
import logging
import os
import sqlite3
from functools import cache
from pathlib import Path

import mlflow
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow import MlflowClient

from mnist_pipeline.config import ROOT
from mnist_pipeline.environment import misread_letters

logger = logging.getLogger(__name__)

MIGRATIONS = Path(mlflow.__file__).parent / "store/db_migrations"
BUSY_TIMEOUT = 20  # seconds that another process may keep the database locked, as in MLflow
ARTIFACT_COLUMNS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
IN_USE_REMEDY = "another program is using it, such as a backup: once that has finished, run the command again"
UNREADABLE = ("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_READONLY", "SQLITE_FULL")  # but not damaged
READ_ONLY_REMEDY = "make the file and its folder writable, or name another database in MLFLOW_TRACKING_URI"


class StoreError(OSError):
    """The store cannot be used: which one, why, and what to do."""


def uri_of(database: Path) -> str:
    """Return MLflow's URI of a database. Raises `StoreError` if its path has characters that MLflow misreads."""
    if odd := misread_letters(str(database)):
        raise StoreError(f"MLflow cannot use a path with {odd} in it, such as {database}: rename the folder")
    return f"sqlite:///{database}"


def absolute_uri(uri: str) -> str:
    """Return `uri`; if it is a relative one of SQLite, from the project's root: so all processes open the same file."""
    scheme, separator, path = uri.partition(":///")
    path, question, query = path.partition("?")
    is_relative = scheme.startswith("sqlite") and separator and not path.startswith("/")
    return f"{uri_of(ROOT / path)}{question}{query}" if is_relative else uri


def create(database: Path) -> None:
    """Create `database`, whole or not at all: MLflow alone would leave half a schema behind if it is killed."""
    partial = database.with_name(f".{database.name}.partial")
    partial.unlink(missing_ok=True)
    with contextlib.chdir(database.parent):  # where MLflow's default experiment puts its artifacts
        MlflowClient(uri_of(partial)).get_experiment("0")
    partial.replace(database)


def refuse_read_only(database: Path) -> None:
    """Raise `StoreError` if `database` exists and cannot be written."""
    if database.exists() and not all(os.access(path, os.W_OK) for path in (database, database.parent)):
        raise StoreError(f"the database {database} is read-only: {READ_ONLY_REMEDY}")


@cache
def check_database(database: Path) -> None:
    """Before MLflow opens `database`, refuse one that it cannot use, and back up one that it would upgrade.

    Raises `StoreError`, with the database unchanged.
    """
    try:
        with _connect(f"{database.as_uri()}?mode=rw") as connection:
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise sqlite3.DatabaseError(finding)
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            _check_revision(database, connection, revision)
    except (sqlite3.DatabaseError, TypeError) as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_BUSY"):
            raise StoreError(f"the database {database} is locked: {IN_USE_REMEDY}") from None
        if name.startswith(UNREADABLE):
            raise StoreError(
                f"the database {database} cannot be read ({error}): check its disk and its rights"
            ) from None
        raise StoreError(
            f"the database {database} is damaged, or not MLflow's ({error}): restore a copy of it, or move it away to "
            "start with an empty one; nothing was written to it"
        ) from None


def copy(database: Path, to: Path) -> None:
    """Copy a database of MLflow's as it is at one moment, and leave the original as it is, whatever its version.

    Raises `ValueError` if it is not MLflow's, or of a newer one.
    """
    try:
        with _connect(f"{database.as_uri()}?mode=ro") as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            ScriptDirectory(str(MIGRATIONS)).get_revision(revision)
            with _connect(to) as target:
                connection.backup(target)
    except (sqlite3.Error, TypeError, CommandError) as error:
        known = f"not a database of MLflow's that version {mlflow.__version__} can read"
        is_busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
        raise ValueError(f"{database} is {'locked' if is_busy else known}: {error}") from None


def relocate(database: Path, artifacts: str) -> int:
    """After the project was moved or copied, make its artifacts those in the folder `artifacts`, beside `database`.

    What is written from now on is put there, never into the folder of an original. Of what was written before, all that
    is there is read from there. Returns how many addresses were changed.
    """
    changed = 0
    with _connect(database) as connection, connection:
        for table, column in ARTIFACT_COLUMNS.items():
            elsewhere = f"{column} LIKE '/%/' || ? || '%' AND substr({column}, 1, ?) <> ?"
            rows = connection.execute(
                f"SELECT rowid, {column} FROM {table} WHERE {elsewhere}",
                (Path(artifacts).name, len(artifacts), artifacts),
            ).fetchall()
            for row, before in rows:
                _, _, path = before.rpartition(f"/{Path(artifacts).name}")
                if path == "" or (path.startswith("/") and Path(artifacts + path).exists()):
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (artifacts + path, row))
                    changed += 1
    return changed


def _connect(database: str | Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(database, uri=isinstance(database, str), timeout=BUSY_TIMEOUT))


def _check_revision(database: Path, connection: sqlite3.Connection, revision: str) -> None:
    migrations = ScriptDirectory(str(MIGRATIONS))
    if revision == migrations.get_current_head():
        return
    try:
        migrations.get_revision(revision)
    except CommandError:
        raise StoreError(
            f"the database {database} is of a newer MLflow than {mlflow.__version__} (version {revision}): install "
            "that, or name another database in MLFLOW_TRACKING_URI; nothing was written to it"
        ) from None
    backup = database.with_name(f"{database.name}.{revision}.backup")
    partial = backup.with_suffix(".partial")
    with _connect(partial) as copy:
        connection.backup(copy)
    partial.replace(backup)
    logger.warning(f"{database} is of an older MLflow and is upgraded; a copy of it as it was is in {backup}")
