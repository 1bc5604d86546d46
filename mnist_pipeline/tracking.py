"""Runs, models and their registry: the only file that imports mlflow."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from sqlalchemy.engine import make_url

from mnist_pipeline.config import ROOT
from mnist_pipeline.data import Examples, denormalize
from mnist_pipeline.model import MLP, Classifier
from mnist_pipeline.training import Epoch

EXPERIMENT = "mnist"
MODEL = "mnist-mlp"
LOCAL_UI = "http://127.0.0.1:5000"  # where `make ui` shows a local database


@dataclass(frozen=True)
class ModelVersion:
    """A registered model: its number, and the alias it was given."""

    number: int
    alias: str  # champion or challenger

    @property
    def uri(self) -> str:
        return f"models:/{MODEL}/{self.number}"

    @property
    def alias_uri(self) -> str:
        return f"models:/{MODEL}@{self.alias}"


@dataclass(frozen=True)
class Run:
    """An MLflow run, known by its id and not by the thread it was started in: any task may log to it."""

    id: str
    experiment_id: str
    artifacts: str  # a folder, or the address of a remote store

    @property
    def url(self) -> str:
        """The run's page, on the tracking server or in the UI that `make ui` opens."""
        base = tracking_uri() if tracking_uri().startswith("http") else LOCAL_UI
        return f"{base.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.id}"

    def log_params(self, params: Mapping[str, object]) -> None:
        words = {name: str(list(value) if isinstance(value, tuple) else value) for name, value in params.items()}
        _client().log_batch(self.id, params=[Param(name, value) for name, value in words.items()])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        now = round(time.time() * 1000)
        _client().log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def log_epoch(self, epoch: Epoch) -> None:
        losses = {"train_loss": epoch.train_loss, "last_batch_loss": epoch.last_batch_loss}
        self.log_metrics(losses, step=epoch.number)

    def log_dataset(self, examples: Examples, *, name: str, context: str, source: Path) -> None:
        """Name a set that the run used, by its content: `context` says what for (`training`, `test`, `exam`)."""
        shape = [-1, *examples.images.shape[1:]]
        dataset = Dataset(
            name=name,
            digest=examples.sha256[:32],  # MLflow keeps 36 characters
            source_type="local",
            source=json.dumps({"uri": str(source)}),
            schema=json.dumps({"images": f"uint8 {shape}", "labels": "int64 [-1]"}),
            profile=json.dumps({"num_rows": len(examples)}),
        )
        _client().log_inputs(self.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def log_figure(self, figure: Figure, name: str) -> None:
        _client().log_figure(self.id, figure, f"figures/{name}.png")

    def log_model(self, mlp: MLP, sample: torch.Tensor, *, step: int) -> str:
        """Log the classifier around `mlp`, in the pt2 format, free of pickle; return the model's URI.

        `sample` is a few normalised images (N ≥ 2, H, W): the input example, with which the graph is traced as well.
        The plain weights lie beside it as `extra_files/state_dict.pt`.
        """
        classifier = Classifier(mlp).eval()
        pixels = denormalize(sample)
        probabilities = classifier(pixels)
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *pixels.shape[1:]))]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *probabilities.shape[1:]))]),
        )
        with tempfile.TemporaryDirectory() as folder:
            state_dict = Path(folder) / "state_dict.pt"
            torch.save(mlp.state_dict(), state_dict)
            # Model.log, as mlflow.pytorch.log_model does not take a run's id.
            info = Model.log(
                artifact_path=None,
                name="model",
                flavor=mlflow.pytorch,
                run_id=self.id,
                step=step,
                model_type="classifier",
                pytorch_model=classifier,
                serialization_format="pt2",
                signature=signature,
                input_example=pixels.numpy(),
                extra_files=[str(state_dict)],
                pip_requirements=[f"{package}=={version_of(package)}" for package in ("torch", "mlflow", "numpy")],
            )
        return str(info.model_uri)

    def register(self, model_uri: str, *, description: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register a logged model. The first version becomes `champion`, every later one `challenger`."""
        client = _client()
        with contextlib.suppress(MlflowException):  # it is there already
            client.create_registered_model(MODEL, description="Handwritten digits: uint8 (N, 28, 28) → probabilities")
        number = client.create_model_version(
            MODEL, model_uri, self.id, dict(tags), description=description, model_id=model_uri.removeprefix("models:/")
        ).version
        with _exclusively():
            alias = "challenger" if _has_alias("champion") else "champion"
            client.set_registered_model_alias(MODEL, alias, number)
        return ModelVersion(int(number), alias)


@contextlib.contextmanager
def start_run(*, params: Mapping[str, object], tags: Mapping[str, str]) -> Iterator[Run]:
    """Open a run in the experiment `mnist`; it ends FINISHED, FAILED after an exception, or KILLED after a signal."""
    experiment_id = prepare()
    client = _client()
    info = client.create_run(experiment_id, tags=dict(tags), run_name=tags.get("prefect.flow_run_name")).info
    run = Run(info.run_id, experiment_id, info.artifact_uri.removeprefix("file://"))
    try:
        run.log_params(params)
        yield run
    except BaseException as error:
        client.set_terminated(run.id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    client.set_terminated(run.id, "FINISHED")


def end_runs(status: str, **tags: str) -> None:
    """End the runs that carry `tags` with `status`, whatever they said before."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    for run in _client().search_runs([prepare()], wanted):
        if run.info.status != status:
            _client().set_terminated(run.info.run_id, status)


def prepare() -> str:
    """Create the database and the experiment where they are missing, and make MLflow use them; return its id."""
    mlflow.set_tracking_uri(tracking_uri())
    with _exclusively():  # two processes that create the schema at once would break the database
        experiment = _client().get_experiment_by_name(EXPERIMENT)
        if experiment:
            experiment_id = str(experiment.experiment_id)
        else:  # without a location, the artifacts of a local database would go to the working directory
            database = _database()
            location = str(database.parent / "mlartifacts") if database else None
            experiment_id = str(_client().create_experiment(EXPERIMENT, artifact_location=location))
    mlflow.set_experiment(experiment_id=experiment_id)  # where Model.log looks
    return experiment_id


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or else the database at the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{ROOT / 'mlflow.db'}"


def _client() -> MlflowClient:
    return MlflowClient(tracking_uri())


def _database() -> Path | None:
    """Give the file that a SQLite tracking URI names."""
    if not tracking_uri().startswith("sqlite"):
        return None
    return Path(make_url(tracking_uri()).database or "").resolve()


def _exclusively() -> contextlib.AbstractContextManager[object]:
    """Keep other processes of this machine away from a local database; a server sees to that itself."""
    database = _database()
    return FileLock(f"{database}.lock") if database else contextlib.nullcontext()


def _has_alias(alias: str) -> bool:
    return alias in _client().get_registered_model(MODEL).aliases


if __name__ == "__main__":  # for `make ui`: the database stands, created under the lock, before a server opens it
    prepare()
    print(tracking_uri())
