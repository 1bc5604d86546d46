"""The store that runs are kept in: where it is, who may write to it now, and what is said where it fails."""

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

from mnist_pipeline import database
from mnist_pipeline.config import ROOT
from mnist_pipeline.database import WRITABLE, StoreError

EXPERIMENT = "mnist"
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # the UI shows what belongs to training
    "mlflow.note.content": "Trainings, retrainings and sweeps by `mnist-pipeline`; each run's description tells more.",
}

# A tracking server is asked again after 0, 6, 12 and 24 seconds, then given up; MLflow's own patience is 247 seconds.
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
PATIENCE = {RETRIES: "4", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "3"}
REMEDIES = {
    "disk is full": "make room, and give the command again",
    "readonly database": WRITABLE,
    "disk I/O error": "see that its disk is writable and has room, and give the command again",
}


def prepare() -> str:
    """Create the database and the experiment where they are missing, and make MLflow use them; return its id."""
    _set_environment()
    mlflow.set_tracking_uri(tracking_uri())
    file = _file()
    artifacts = str(file.parent / "mlartifacts") if file else None  # else, where the server keeps them
    if file:
        database.refuse_read_only(file)
    with exclusively():  # two processes that create the schema at once would break the database
        if file:
            if not file.exists():
                database.create(file)
            database.look_after(file)
        experiment = client().get_experiment_by_name(EXPERIMENT)
        if not experiment:
            with excusing("RESOURCE_ALREADY_EXISTS"):  # another machine was quicker
                client().create_experiment(EXPERIMENT, artifacts, EXPERIMENT_TAGS)
            experiment = client().get_experiment_by_name(EXPERIMENT)
            assert experiment
        if file and artifacts and experiment.artifact_location != artifacts:
            database.relocate(file, experiment.artifact_location, artifacts)
        experiment_id = str(experiment.experiment_id)
    mlflow.set_experiment(experiment_id=experiment_id)  # where Model.log looks
    return experiment_id


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or else the database at the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or database.uri_of(ROOT / "mlflow.db")


def client() -> MlflowClient:
    """Give a client of the store, for whatever the rooms around it do with runs and versions."""
    return MlflowClient(tracking_uri())


def is_local() -> bool:
    """Say whether the store is a file, which only the processes of this machine write to."""
    return _file() is not None


def study_storage() -> str:
    """`OPTUNA_STORAGE`, as Optuna's own commands read it, or else a database beside the runs'."""
    return os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{_folder() / 'optuna.db'}"


def unfinished_folder() -> Path:
    """Give the folder, beside the database, of what has not come to its end."""
    return _folder() / "unfinished"


def exclusively() -> contextlib.AbstractContextManager[object]:
    """Keep the other processes of this machine out; who is in may enter again."""
    return FileLock(f"{_file() or ROOT / 'mlflow'}.lock", is_singleton=True)


@contextlib.contextmanager
def excusing(*codes: str) -> Iterator[None]:
    """Let MLflow's errors of these `codes` pass."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raise `StoreError`, an `OSError` with one line to say, for whatever the store cannot do within."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        lines = str(error).strip().splitlines()
        words = next((line for line in lines if re.match(r"\([\w.]+Error\) ", line)), lines[0])  # SQLAlchemy's gist
        uri = tracking_uri()
        if uri.startswith("http"):
            what, remedy = "tracking server", "once it answers, the same command goes on where this one stopped"
        else:
            what, remedy = "database", "what is in it is left as it is"
            remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in words), remedy)
        raise StoreError(f"the {what} {_without_password(uri)} failed: {_without_password(words)}; {remedy}") from error


def stop_waiting_after(error: BaseException) -> None:
    """After a tracking server was waited for in vain, ask it once and no more: what is left to do is to end."""
    if isinstance(error, MlflowException) and not isinstance(error, RestException):
        os.environ[RETRIES] = "0"


def let_go_after(error: BaseException) -> None:
    """After a signal, let go of what the calls that it interrupted still hold.

    In the middle of a write that is a connection, kept by the traceback, and with it the database's lock: this process
    would wait for itself.
    """
    if isinstance(error, Exception):
        return
    traceback.clear_frames(error.__traceback__)
    gc.collect()


def _set_environment() -> None:
    """Set how long MLflow waits for a server, and take the password out of its address, which is shown far and wide."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    address = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if address.scheme in ("http", "https") and address.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(address.username)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(address.password or "")
        host = address.netloc.rpartition("@")[2]
        os.environ["MLFLOW_TRACKING_URI"] = address._replace(netloc=host).geturl()


def _without_password(words: str) -> str:
    """Take the user and the password out of each URI in `words`."""
    return re.sub(r"(?<=://)[^/\s]+@", "", words)


def _folder() -> Path:
    return (_file() or ROOT / "mlflow").parent


def _file() -> Path | None:
    """Give the file that a SQLite tracking URI names."""
    if not tracking_uri().startswith("sqlite"):
        return None
    return Path(make_url(tracking_uri()).database or "").resolve()


if __name__ == "__main__":  # for `make ui`: the database stands, created under the lock, before a server opens it
    prepare()
    print(tracking_uri())
