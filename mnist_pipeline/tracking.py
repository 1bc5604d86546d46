"""Runs, and the models that they log."""

import contextlib
import json
import pickle
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version as version_of
from pathlib import Path

import mlflow
import mlflow.entities
import mlflow.pytorch
import numpy as np
import torch
from matplotlib.figure import Figure
from mlflow import types
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import TensorSpec
from mlflow.utils import requirements_utils

from mnist_pipeline import unfinished
from mnist_pipeline.config import Schema, TrainConfig
from mnist_pipeline.data import Examples
from mnist_pipeline.drift import Profile
from mnist_pipeline.model import MLP, Classifier
from mnist_pipeline.store import (
    client,
    exclusively,
    excusing,
    let_go_after,
    prepare,
    stop_waiting_after,
    tracking_uri,
    unfinished_folder,
)
from mnist_pipeline.training import Epoch

WEIGHTS = "extra_files/state_dict.pt"  # beside each model: its plain weights
PROFILE = "data_profile.json"  # of each run: what its training data looked like
TABLES = "mlflow.loggedArtifacts"  # a run's tag by which MLflow knows its tables
AT_ONCE = 1000  # metrics that MLflow takes in one call
LOCAL_UI = "http://127.0.0.1:5000"  # where `make ui` shows a local database


@dataclass(frozen=True)
class Run:
    """An MLflow run, known by its id and not by the thread it was started in: any task may log to it."""

    id: str
    experiment_id: str
    artifacts: str  # a folder, or the address of a remote store
    checkpoint: Path | None = None  # where its training keeps its state
    steps_logged: Mapping[str, int] = field(default_factory=dict)  # the last of each metric, before it was gone on with

    @property
    def was_interrupted(self) -> bool:
        return bool(self.checkpoint and self.checkpoint.exists())

    @property
    def url(self) -> str:
        """The run's page, on the tracking server or in the UI that `make ui` opens."""
        base = tracking_uri() if tracking_uri().startswith("http") else LOCAL_UI
        return f"{base.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.id}"

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log what the run was told: each value as words, a tuple as a list."""
        words = {name: str(list(value) if isinstance(value, tuple) else value) for name, value in params.items()}
        client().log_batch(self.id, params=[Param(name, value) for name, value in words.items()])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Log numbers at `step`, save those that it logged before it was interrupted."""
        now = round(time.time() * 1000)
        new = {name: value for name, value in metrics.items() if self.steps_logged.get(name, -1) < step}
        numbers = [Metric(name, value, now, step) for name, value in new.items()]
        for start in range(0, len(numbers), AT_ONCE):
            client().log_batch(self.id, metrics=numbers[start : start + AT_ONCE])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set `tags`, in place of those of the same names."""
        client().log_batch(self.id, tags=[RunTag(name, value) for name, value in tags.items()])

    def log_epoch(self, epoch: Epoch) -> None:
        """Log the losses of an epoch, its number the step."""
        losses = {"train_loss": epoch.train_loss, "last_batch_loss": epoch.last_batch_loss}
        self.log_metrics(losses, step=epoch.number)

    def log_dataset(self, examples: Examples, *, name: str, context: str, source: Path) -> None:
        """Name a set that the run used, by its content: `context` says what for (`training`, `test`, `exam`)."""
        shape = [-1, *examples.pixels.shape[1:]]
        dataset = Dataset(
            name=name,
            digest=examples.sha256[:32],  # MLflow keeps 36 characters
            source_type="local",
            source=json.dumps({"uri": str(source)}),
            schema=json.dumps({"images": f"uint8 {shape}", "labels": "int64 [-1]"}),
            profile=json.dumps({"num_rows": len(examples)}),
        )
        client().log_inputs(self.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def log_figure(self, figure: Figure, name: str) -> None:
        """Keep a figure as `figures/NAME.png`."""
        client().log_figure(self.id, figure, f"figures/{name}.png")

    def log_table(self, rows: list[dict[str, object]], name: str) -> None:
        """Log a table as MLflow's own `log_table` does, but in place of what a run that is gone on with had logged."""
        file, columns = f"{name}.json", list({column: None for row in rows for column in row})
        client().log_dict(self.id, {"columns": columns, "data": [[*map(row.get, columns)] for row in rows]}, file)
        tables = json.loads(client().get_run(self.id).data.tags.get(TABLES, "[]"))
        if file not in (table["path"] for table in tables):
            self.set_tags({TABLES: json.dumps([*tables, {"path": file, "type": "table"}])})

    def log_profile(self, profile: Profile) -> None:
        """Keep what the training data looked like, for the drift of the next."""
        client().log_dict(self.id, profile.to_json(), PROFILE)

    def log_model(self, mlp: MLP, pixels: torch.Tensor, *, step: int, schema: Schema = Schema()) -> str:
        """Log the classifier around `mlp`, in the pt2 format, free of pickle; return the model's URI.

        `pixels` are a few uint8 images (N ≥ 2, H, W): the input example, with which the graph is traced as well.
        The plain weights lie beside it, the schema in its metadata.
        """
        classifier = Classifier(mlp).eval()
        probabilities = classifier(pixels)
        signature = ModelSignature(
            inputs=types.Schema([TensorSpec(np.dtype(np.uint8), (-1, *pixels.shape[1:]))]),
            outputs=types.Schema([TensorSpec(np.dtype(np.float32), (-1, *probabilities.shape[1:]))]),
        )
        again = Classifier(MLP.from_state_dict(mlp.state_dict()))
        assert torch.equal(again(pixels), probabilities)  # what `load_network` builds is what is registered
        with tempfile.TemporaryDirectory() as folder, _requirements_as_they_are():
            state_dict = Path(folder) / Path(WEIGHTS).name
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
                metadata=schema.to_json(),
                input_example=pixels.numpy(),
                extra_files=[str(state_dict)],
                pip_requirements=[f"{package}=={version_of(package)}" for package in ("torch", "mlflow", "numpy")],
            )
        return str(info.model_uri)


@contextlib.contextmanager
def _requirements_as_they_are() -> Iterator[None]:
    """Let MLflow take the requirements that it is given, which name this environment's own versions.

    It would spend a second on looking up which module is of which installed package, to see whether they do.
    """
    names = vars(requirements_utils)
    before = names.get("_MODULES_TO_PACKAGES")
    names["_MODULES_TO_PACKAGES"] = {}
    try:
        yield
    finally:
        names["_MODULES_TO_PACKAGES"] = before


@contextlib.contextmanager
def start_run(
    *,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    fingerprint: str | None = None,
    fresh: bool = False,
    run_id: str | None = None,
    name: str | None = None,
) -> Iterator[Run]:
    """Open a run in the experiment `mnist`; it ends FINISHED, FAILED after an exception, or KILLED after a signal.

    A `fingerprint` names all that decides what comes out. Where a run with the same one was interrupted, by whatever,
    that run is opened again, unless a `fresh` start is asked for; its training goes on from its checkpoint. So is the
    run that a `run_id` names.
    """
    experiment_id = prepare()
    process = unfinished.this_process(unfinished_folder())
    tags = dict(tags) | {"process": process} | ({"fingerprint": fingerprint} if fingerprint else {})
    begun = _found(run_id) if run_id else None
    run = _reopened(begun, tags) if begun else None
    if fingerprint:
        run = _interrupted_run(fingerprint, tags, fresh)
    is_new = run is None
    if run is None:
        info = client().create_run(experiment_id, tags=tags, run_name=name).info
        checkpoint = unfinished.checkpoint(unfinished_folder(), fingerprint, info.run_id) if fingerprint else None
        run = Run(info.run_id, experiment_id, _path(info.artifact_uri), checkpoint)
    with _ended(run):
        if is_new:
            run.log_params(params)
        yield run
    if run.checkpoint:
        run.checkpoint.unlink(missing_ok=True)


@contextlib.contextmanager
def start_trial(sweep: str, number: int, config: TrainConfig, *, process: str) -> Iterator[Run]:
    """Open the run of a trial, a child of the run `sweep`: the same one again where it was begun before."""
    experiment_id = prepare()
    tags = {"mlflow.parentRunId": sweep, "trial": str(number)}
    begun = _runs(experiment_id, **tags)
    tags["process"] = process
    if begun:
        run = _reopened(begun[0], tags)
    else:
        info = client().create_run(experiment_id, tags=tags, run_name=f"trial-{number}").info
        run = Run(info.run_id, experiment_id, _path(info.artifact_uri))
    with _ended(run):
        run.log_params(asdict(config))
        yield run


@contextlib.contextmanager
def _ended(run: Run) -> Iterator[None]:
    """End `run` with what ended the block."""
    try:
        yield
        client().set_terminated(run.id, "FINISHED")
    except BaseException as error:
        unfinished.leave_to_the_next()  # where the store is what failed, the next command ends the run
        let_go_after(error)
        stop_waiting_after(error)
        with contextlib.suppress(MlflowException):
            client().set_terminated(run.id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise


def _interrupted_run(fingerprint: str, tags: Mapping[str, str], fresh: bool) -> Run | None:
    """Take over the latest run with that `fingerprint` that left a checkpoint and that no living process has."""
    folder = unfinished_folder()
    with exclusively():
        for run_id in unfinished.interrupted(folder, fingerprint):
            checkpoint = unfinished.checkpoint(folder, fingerprint, run_id)
            run = _found(run_id)
            if run is None:
                continue
            at_work = run.info.status == "RUNNING"
            if at_work and unfinished.is_alive(folder, run.data.tags.get("process", "")):
                continue
            if fresh or run.info.status == "FINISHED" or run.info.lifecycle_stage != "active":
                if at_work:
                    client().set_terminated(run_id, "KILLED")
                checkpoint.unlink(missing_ok=True)
                continue
            return _reopened(run, tags, checkpoint)
    return None


def _found(run_id: str) -> mlflow.entities.Run | None:
    with excusing("RESOURCE_DOES_NOT_EXIST"):  # it is gone, or of another store
        return client().get_run(run_id)
    return None


def _reopened(run: mlflow.entities.Run, tags: Mapping[str, str], checkpoint: Path | None = None) -> Run:
    client().update_run(run.info.run_id, "RUNNING")
    logged = {metric.key: metric.step for metric in run.data._metric_objs}
    again = Run(run.info.run_id, run.info.experiment_id, _path(run.info.artifact_uri), checkpoint, logged)
    again.set_tags(tags)
    return again


def end_runs(status: str, **tags: str) -> None:
    """End the runs that carry `tags` with `status`, whatever they said before."""
    for run in _runs(prepare(), **tags):
        if run.info.status != status:
            client().set_terminated(run.info.run_id, status)


def find_run(**tags: str) -> Run | None:
    """Find the run that carries `tags`."""
    for run in _runs(prepare(), **tags):
        return Run(run.info.run_id, run.info.experiment_id, _path(run.info.artifact_uri))
    return None


def close_runs_of(process: str) -> dict[str, str]:
    """End, as KILLED, what a dead process left RUNNING; give the final status of each flow run that it was tracking."""
    statuses = {}
    for run in _runs(prepare(), process=process):
        if run.info.status == "RUNNING":
            client().set_terminated(run.info.run_id, "KILLED")
        statuses[run.data.tags.get("prefect.flow_run_id", "")] = (
            "FINISHED" if run.info.status == "FINISHED" else "KILLED"
        )
    return statuses


def processes_at_work() -> dict[str, str]:
    """Name the process of each Prefect flow run whose MLflow run is RUNNING."""
    running = client().search_runs([prepare()], "attributes.status = 'RUNNING'")
    return {
        flow_run: run.data.tags["process"]
        for run in running
        if (flow_run := run.data.tags.get("prefect.flow_run_id")) and "process" in run.data.tags
    }


def load_network(uri: str) -> Classifier:
    """Load a registered model: it maps uint8 images (N, H, W) to probabilities (N, classes).

    It is built from the plain weights beside the model, in a tenth of a second, as torch.export stays unloaded. Nothing
    that came with the model is run: neither pickle nor code. Raises `ValueError` where that is not possible.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = mlflow.artifacts.download_artifacts(f"{uri}/{WEIGHTS}", dst_path=folder)
            mlp = MLP.from_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
        fields = mlflow.models.get_model_info(uri).metadata
        return Classifier(mlp, Schema.from_json(fields) if fields else Schema()).eval().requires_grad_(False)
    except (MlflowException, OSError, pickle.UnpicklingError, RuntimeError, LookupError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{uri} cannot be loaded from the plain weights beside it, {WEIGHTS}: {reason}") from None


def load_profile(run_id: str) -> Profile | None:
    """Read the profile of the data that the run trained on, where it has kept one."""
    try:
        return Profile.from_json(mlflow.artifacts.load_dict(f"runs:/{run_id}/{PROFILE}"))
    except MlflowException:
        return None


def _path(uri: str) -> str:
    return uri.removeprefix("file://")


def _runs(experiment_id: str, **tags: str) -> list[mlflow.entities.Run]:
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    return list(client().search_runs([experiment_id], wanted))
