"""The MLflow store: where it is, who may write to it now, and its errors in one line."""

import contextlib
import gc
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from mnist_pipeline.config import ROOT
from mnist_pipeline.tracking import sqlite
from mnist_pipeline.tracking.sqlite import READ_ONLY_REMEDY, StoreError

EXPERIMENT = "mnist"
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # the UI shows what belongs to training
    "mlflow.note.content": "Trainings, retrainings and sweeps by `mnist-pipeline`; see each run's description.",
}

# A tracking server is retried after 0, 6, 12 and 24 seconds, then given up; MLflow's own default is 247 seconds.
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
RETRY_ENVIRONMENT = {RETRIES: "4", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "3"}
REMEDIES = {
    "disk is full": "make room, and run the command again",
    "readonly database": READ_ONLY_REMEDY,
    "disk I/O error": "check that its disk is writable and has room, and run the command again",
}


def prepare() -> str:
    """Create the database and the experiment if they are missing, and make MLflow use them; return its id."""
    _set_environment()
    mlflow.set_tracking_uri(tracking_uri())
    file = _file()
    artifacts = str(file.parent / "mlartifacts") if file else None  # else where the server keeps them
    if file:
        sqlite.refuse_read_only(file)
    with store_lock():  # two processes that create the schema at once would break the database
        if file:
            if not file.exists():
                sqlite.create(file)
            sqlite.check_database(file)
        experiment = client().get_experiment_by_name(EXPERIMENT)
        if not experiment:
            with ignore_mlflow_errors("RESOURCE_ALREADY_EXISTS"):  # another machine was quicker
                client().create_experiment(EXPERIMENT, artifacts, EXPERIMENT_TAGS)
            experiment = client().get_experiment_by_name(EXPERIMENT)
            assert experiment
        if file and artifacts and experiment.artifact_location != artifacts:
            sqlite.relocate(file, experiment.artifact_location, artifacts)
        experiment_id = str(experiment.experiment_id)
    mlflow.set_experiment(experiment_id=experiment_id)  # Model.log uses it
    return experiment_id


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, or else the database at the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite.uri_of(ROOT / "mlflow.db")


def client() -> MlflowClient:
    """Return a client of the store."""
    return MlflowClient(tracking_uri())


def is_local() -> bool:
    """Return whether the store is a file, which only processes of this machine write to."""
    return _file() is not None


def study_storage() -> str:
    """Return `OPTUNA_STORAGE`, as Optuna's own commands read it, or else a database beside the runs'."""
    return os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{_folder() / 'optuna.db'}"


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
def as_store_errors() -> Iterator[None]:
    """Turn the errors of MLflow and SQLAlchemy into `StoreError`, an `OSError` whose message is one line."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        lines = str(error).strip().splitlines()
        gist = next((line for line in lines if re.match(r"\([\w.]+Error\) ", line)), lines[0])  # SQLAlchemy's
        uri = tracking_uri()
        if uri.startswith("http"):
            kind, remedy = "tracking server", "once it answers, the same command resumes where this one stopped"
        else:
            kind, remedy = "database", "what is in it is left as it is"
            remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in gist), remedy)
        raise StoreError(f"the {kind} {_without_password(uri)} failed: {_without_password(gist)}; {remedy}") from error


def disable_retries(error: BaseException) -> None:
    """Once a tracking server could not be reached, try each call only once: what is left to do is to end."""
    if isinstance(error, MlflowException) and not isinstance(error, RestException):
        os.environ[RETRIES] = "0"


def release_connections(error: BaseException) -> None:
    """After a signal, release the database connections of the calls that it interrupted.

    In the middle of a write, the traceback keeps such a connection alive, and with it the database's lock: this process
    would wait for itself.
    """
    if isinstance(error, Exception):
        return
    traceback.clear_frames(error.__traceback__)
    gc.collect()


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


def _without_password(text: str) -> str:
    """Remove the user and the password from each URI in `text`."""
    return re.sub(r"(?<=://)[^/\s]+@", "", text)


def _folder() -> Path:
    return (_file() or ROOT / "mlflow").parent


def _file() -> Path | None:
    """Return the file that a SQLite tracking URI names."""
    if not tracking_uri().startswith("sqlite"):
        return None
    return Path(make_url(tracking_uri()).database or "").resolve()


if __name__ == "__main__":  # for `make ui`: creates the database under the lock before a server opens it
    prepare()
    print(tracking_uri())
