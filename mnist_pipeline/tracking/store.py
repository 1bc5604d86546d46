"""The MLflow store: where it is, who may write to it now, and its errors in one line."""

import contextlib
import gc
import json
import logging
import os
import re
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mnist_pipeline.config import ROOT
from mnist_pipeline.tracking import sqlite
from mnist_pipeline.tracking.sqlite import IN_USE_REMEDY, READ_ONLY_REMEDY, StoreError

logger = logging.getLogger(__name__)

CREATED = "created"  # tag of an imported version
WEIGHTS = "extra_files/state_dict.pt"  # beside each model: its plain weights
LOCAL_UI = "http://127.0.0.1:5000"  # where `make ui` shows a local database
VIEW = "accuracy"  # key of the view that is described in a tag of each experiment: MLflow's own shows no metric
COLUMNS = [f"metrics.`{name}_accuracy`" for name in ("test", "holdout")]
COLUMNS += [f"params.`{name}`" for name in ("recipe", "hidden", "optimizer", "lr", "seed")]
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # the UI shows what belongs to training
    "mlflow.note.content": "Trainings, retrainings and sweeps by `mnist-pipeline`; see each run's description.",
    f"mlflow.sharedViewState.{VIEW}": json.dumps({"selectedColumns": COLUMNS}),
}

# A tracking server is retried after 0, 6, 12 and 24 seconds, then given up; MLflow's own default is 247 seconds. Each
# answer may take 30 (MLflow: 120), as the server itself waits 20 for a SQLite file that is locked.
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
RETRY_ENVIRONMENT = {RETRIES: "4", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
REMEDIES = {
    "database is locked": IN_USE_REMEDY,
    "Current state is deleted": "someone has deleted it meanwhile, so that the same command begins another",
    "disk is full": "make room, and run the command again",
    "readonly database": READ_ONLY_REMEDY,
    "disk I/O error": "check that its disk is writable and has room, and run the command again",
}
LOG_IN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user who may"
SERVER_REMEDIES = {
    "error code 401": LOG_IN,
    "error code 403": LOG_IN,
    "maximum allowable retries": f"set {RETRIES} to at most 10",
}


def prepare() -> None:
    """Create the database if it is missing, check it, and make MLflow use it."""
    _set_environment()
    _check_address("MLFLOW_TRACKING_URI", tracking_uri())
    mlflow.set_tracking_uri(tracking_uri())
    if file := _file():
        sqlite.refuse_read_only(file)
        with store_lock():  # two processes that create the schema at once would break the database
            if not file.exists():
                sqlite.create(file)
            sqlite.check_database(file)
            if sqlite.relocate(file, _artifacts(file)):
                logger.warning(f"The project was moved or copied: its artifacts are now those in {_artifacts(file)}")
    elif not tracking_uri().startswith("http"):
        create_engine(tracking_uri(), poolclass=NullPool).connect().close()  # MLflow would try for three minutes
    client().search_experiments(max_results=1)  # a server that does not answer is noticed before a run is made


def experiment_id(name: str) -> str:
    """Return the id of the experiment `name`, one for each dataset. It is created or restored, if it must be."""
    file = _file()
    experiment = client().get_experiment_by_name(name)
    if not experiment:
        with ignore_mlflow_errors("RESOURCE_ALREADY_EXISTS"):  # another process was quicker
            client().create_experiment(name, _artifacts(file) if file else None)  # else where the server keeps them
        experiment = client().get_experiment_by_name(name)
        assert experiment
    if experiment.lifecycle_stage != "active":
        with ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST"):  # another process was quicker
            client().restore_experiment(experiment.experiment_id)
        logger.warning(f"The experiment {name} had been deleted: it is restored, with its runs")
    for tag in EXPERIMENT_TAGS.keys() - experiment.tags.keys():  # all of them, or those that are new since version 0.1
        write_shared(client().set_experiment_tag, experiment.experiment_id, tag, EXPERIMENT_TAGS[tag])
    return str(experiment.experiment_id)


def ui_url(page: str, **query: str) -> str:
    """Return the URL of a page of MLflow's UI, on the tracking server or in what `make ui` opens."""
    base = tracking_uri() if tracking_uri().startswith("http") else LOCAL_UI
    return (
        f"{base.rstrip('/')}/#/{page}?{urlencode({'workflowType': 'machine_learning', **query})}"  # not its GenAI mode
    )


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, or else the database at the project's root."""
    return sqlite.absolute_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def client() -> MlflowClient:
    """Return a client of the store. Raises `StoreError` if its file is gone: SQLite would put an empty one there."""
    if (file := _file()) and not file.exists():
        raise StoreError(f"the database {file} is gone: put it back")
    return MlflowClient(tracking_uri())


def created(version: ModelVersion) -> int:
    """Return when a version was made, in milliseconds: for one that was imported, where it comes from."""
    return int(version.tags.get(CREATED, version.creation_timestamp))


def logged_model_id(version: ModelVersion) -> str | None:
    """Return the id of the model that was registered as `version`, which its `model_id` lacks in a database."""
    return (version.source or "").partition("models:/")[2] or None


def write_shared(write: Callable[..., Any], *args: Any) -> None:
    """Write what another process may be writing: MLflow looks for a row, then inserts it, and fails if it came late."""
    try:
        write(*args)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        write(*args)  # finds the other's row


def pages(search: Callable[..., Any], *args: Any, **options: Any) -> Iterator[Any]:
    """Yield what all pages of a search of MLflow's hold."""
    token = None
    while True:
        page = search(*args, **options, page_token=token)
        yield from page
        if not (token := page.token):
            return


def model_versions(name: str | None = None, source: MlflowClient | None = None) -> list[ModelVersion]:
    """Return the versions of a registered model, or of all of them, here or in `source`, the oldest of each first."""
    found = pages((source or client()).search_model_versions, f"name = '{name}'" if name else None)
    return sorted(found, key=lambda each: int(each.version))


def is_local() -> bool:
    """Return whether the store is a file, which only processes of this machine write to."""
    return _file() is not None


def study_storage() -> str:
    """Return `OPTUNA_STORAGE`, as Optuna's own commands read it, or else a database beside the runs'."""
    uri = sqlite.absolute_uri(os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{_folder() / 'optuna.db'}")
    _check_address("OPTUNA_STORAGE", uri, servers=False)
    return uri


def in_progress_folder() -> Path:
    """Return the folder, beside the database, of process locks and checkpoints."""
    return _folder() / "in_progress"


def store_lock() -> contextlib.AbstractContextManager[object]:
    """Keep the other processes of this machine out; the holder may enter again."""
    return FileLock(f"{_file() or ROOT / 'mlflow'}.lock", is_singleton=True)


@contextlib.contextmanager
def ignore_mlflow_errors(*codes: str) -> Iterator[None]:
    """Ignore MLflow errors with one of these `codes`."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


@contextlib.contextmanager
def as_store_errors(uri: str | None = None) -> Iterator[None]:
    """Turn the errors of MLflow, SQLAlchemy and SQLite into `StoreError`, whose message is one line.

    It names `uri`, by default that of the runs.
    """
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error  # as Optuna wraps some
        if isinstance(error, StoreError) or not isinstance(cause, (MlflowException, SQLAlchemyError, sqlite3.Error)):
            raise
        lines = str(cause).strip().splitlines()
        gist = next((line for line in lines if re.match(r"\([\w.]+Error\) ", line)), lines[0])  # SQLAlchemy's
        uri = uri or tracking_uri()
        if uri.startswith("http"):
            kind, remedy, remedies = "tracking server", "once it answers, run the same command again", SERVER_REMEDIES
        else:
            kind, remedy, remedies = "database", "the same command, run again, finishes what this one began", REMEDIES
        remedy = next((remedy for sign, remedy in remedies.items() if sign in gist), remedy)
        raise StoreError(f"the {kind} {without_password(uri)} failed: {without_password(gist)}; {remedy}") from error


def disable_retries(error: BaseException) -> None:
    """Once a tracking server could not be reached, try each call only once: what is left to do is to end."""
    if isinstance(error, MlflowException) and not isinstance(error, RestException):
        os.environ[RETRIES] = "0"


def release_connections(error: BaseException) -> None:
    """After a signal, release the database connections of the calls that it interrupted.

    The traceback keeps them alive, and with them the database's lock: this process would wait for itself.
    """
    if isinstance(error, Exception):
        return
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    for each in gc.get_objects():  # a frame that is cleared still holds what its function closes over
        if isinstance(each, sqlite3.Cursor):
            with contextlib.suppress(sqlite3.Error):  # another thread's
                each.close()


def _check_address(variable: str, uri: str, *, servers: bool = True) -> None:
    """Raise `StoreError` unless `uri` is that of a server, or of a database whose driver is installed."""
    if servers and uri.startswith(("http://", "https://")):
        return
    try:
        url = make_url(uri)
        url.get_dialect().import_dbapi()
        is_cut_off = "?" in uri and not url.query  # at a ? in a path
        if url.get_backend_name() == "sqlite" and (is_cut_off or not _names_a_file(url.database)):
            raise ArgumentError(f"{uri} names no file")
    except ImportError as error:
        remedy = 'pip install --constraint constraints.txt --editable ".[cluster]" installs it for PostgreSQL'
        raise StoreError(f"{variable} names a database whose driver is missing ({error.name}): {remedy}") from None
    except SQLAlchemyError:
        wanted = f"{'http://tracker:5000, ' * servers}sqlite:////data/mlflow.db or postgresql://user@db/mlflow"
        raise StoreError(f"{variable} must be an address such as {wanted}, not {without_password(uri)}") from None


def _names_a_file(database: str | None) -> bool:
    return bool(database and Path(database).name != ":memory:" and not Path(database).is_dir())


def _set_environment() -> None:
    """Set the retries, and move the password out of the server's address, which is printed and logged."""
    for name, value in RETRY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if address.scheme in ("http", "https") and address.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(address.username)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(address.password or "")
        host = address.netloc.rpartition("@")[2]
        os.environ["MLFLOW_TRACKING_URI"] = address._replace(netloc=host).geturl()


def without_password(text: str) -> str:
    """Remove the user and the password from each URI in `text`."""
    return re.sub(r"(?<=://)[^/\s]+@", "", text)


def _artifacts(file: Path) -> str:
    """Return the folder of the artifacts of a local database."""
    return str(file.parent / "mlartifacts")


def _folder() -> Path:
    return (_file() or ROOT / "mlflow").parent


def _file() -> Path | None:
    """Return the file that a SQLite tracking URI names."""
    if not tracking_uri().startswith("sqlite"):
        return None
    return Path(make_url(tracking_uri()).database or "").resolve()
