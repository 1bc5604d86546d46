"""MLflow runs: opened, logged to, resumed and ended."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import mlflow
import mlflow.entities
from matplotlib.figure import Figure
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.drift import Profile
from mnist_pipeline.data.splits import Examples
from mnist_pipeline.tracking import processes, store
from mnist_pipeline.training.loop import Epoch

PROFILE = "data_profile.json"  # artifact of each run: what its training data looked like
TABLES_TAG = "mlflow.loggedArtifacts"  # where MLflow lists a run's tables
MAX_METRICS = 1000  # in one call
LOCAL_UI = "http://127.0.0.1:5000"  # where `make ui` shows a local database


@dataclass(frozen=True)
class Run:
    """An MLflow run, known by its id and not by the thread that started it: any task may log to it."""

    id: str
    experiment_id: str
    artifacts: str  # a folder, or the address of a remote store
    checkpoint: Path | None = None  # where its training saves its state
    logged_steps: Mapping[str, int] = field(default_factory=dict)  # the last step of each metric before it was resumed

    @property
    def was_interrupted(self) -> bool:
        return bool(self.checkpoint and self.checkpoint.exists())

    @property
    def url(self) -> str:
        """The run's page, on the tracking server or in the UI that `make ui` opens."""
        base = store.tracking_uri() if store.tracking_uri().startswith("http") else LOCAL_UI
        return f"{base.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.id}"

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters, a tuple as a list."""
        values = {name: str(list(value) if isinstance(value, tuple) else value) for name, value in params.items()}
        store.client().log_batch(self.id, params=[Param(name, value) for name, value in values.items()])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Log metrics at `step`, except those that were logged before the run was interrupted."""
        now = round(time.time() * 1000)
        new = {name: value for name, value in metrics.items() if self.logged_steps.get(name, -1) < step}
        batch = [Metric(name, value, now, step) for name, value in new.items()]
        for start in range(0, len(batch), MAX_METRICS):
            store.client().log_batch(self.id, metrics=batch[start : start + MAX_METRICS])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        store.client().log_batch(self.id, tags=[RunTag(name, value) for name, value in tags.items()])

    def log_epoch(self, epoch: Epoch) -> None:
        """Log the losses of an epoch, with its number as the step."""
        losses = {"train_loss": epoch.train_loss, "last_batch_loss": epoch.last_batch_loss}
        self.log_metrics(losses, step=epoch.number)

    def log_dataset(self, examples: Examples, *, name: str, context: str, source: Path) -> None:
        """Log a set that the run used, by its hash; `context` is its use (`training`, `test`, `holdout`)."""
        shape = [-1, *examples.pixels.shape[1:]]
        dataset = Dataset(
            name=name,
            digest=examples.sha256[:32],  # MLflow allows 36 characters
            source_type="local",
            source=json.dumps({"uri": str(source)}),
            schema=json.dumps({"images": f"uint8 {shape}", "labels": "int64 [-1]"}),
            profile=json.dumps({"num_rows": len(examples)}),
        )
        store.client().log_inputs(self.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a figure as `figures/NAME.png`."""
        store.client().log_figure(self.id, figure, f"figures/{name}.png")

    def log_table(self, rows: list[dict[str, object]], name: str) -> None:
        """Log a table as MLflow's `log_table` does, but replace the one that a resumed run logged before."""
        file, columns = f"{name}.json", list({column: None for row in rows for column in row})
        store.client().log_dict(self.id, {"columns": columns, "data": [[*map(row.get, columns)] for row in rows]}, file)
        tables = json.loads(store.client().get_run(self.id).data.tags.get(TABLES_TAG, "[]"))
        if file not in (table["path"] for table in tables):
            self.set_tags({TABLES_TAG: json.dumps([*tables, {"path": file, "type": "table"}])})

    def log_profile(self, profile: Profile) -> None:
        """Log what the training data look like, for the drift of later ones."""
        store.client().log_dict(self.id, profile.to_json(), PROFILE)


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
    """Open a run; it ends FINISHED, FAILED after an exception, or KILLED after a signal.

    A `fingerprint` identifies all that decides what comes out. If a run with the same one was interrupted, that run is
    opened again, unless a `fresh` start is wanted; its training resumes from its checkpoint. A `run_id` opens that run
    again, if it exists.
    """
    experiment_id = store.prepare()
    folder = store.in_progress_folder()
    tags = dict(tags) | {"process": processes.process_id(folder)}
    run = None
    if run_id and (found := _find(run_id)):
        run = _reopen(found, tags)
    if fingerprint:
        tags |= {"fingerprint": fingerprint}
        run = _resume_interrupted(fingerprint, tags, fresh)
    is_new = run is None
    if run is None:
        run = _create(experiment_id, tags, name)
        if fingerprint:
            run = replace(run, checkpoint=processes.checkpoint_path(folder, fingerprint, run.id))
    with _ended(run):
        if is_new:
            run.log_params(params)
        yield run
    if run.checkpoint:
        run.checkpoint.unlink(missing_ok=True)


@contextlib.contextmanager
def start_trial(sweep: str, number: int, config: TrainConfig, *, process: str) -> Iterator[Run]:
    """Open the run of a trial, a child of the run `sweep`; a trial that is run again reopens its own."""
    experiment_id = store.prepare()
    tags = {"mlflow.parentRunId": sweep, "trial": str(number)}
    existing = _search(experiment_id, **tags)
    tags["process"] = process
    run = _reopen(existing[0], tags) if existing else _create(experiment_id, tags, f"trial-{number}")
    with _ended(run):
        run.log_params(asdict(config))
        yield run


@contextlib.contextmanager
def _ended(run: Run) -> Iterator[None]:
    """End `run` as the block ends."""
    try:
        yield
        store.client().set_terminated(run.id, "FINISHED")
    except BaseException as error:
        processes.mark_crashed()  # if the store is what failed, the next flow ends the run
        store.release_connections(error)
        store.disable_retries(error)
        with contextlib.suppress(MlflowException):
            store.client().set_terminated(run.id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise


def close_runs(process: str) -> dict[str, str]:
    """End as KILLED the runs that a dead process left RUNNING; return the status of each, by its Prefect flow run."""
    statuses = {}
    for run in _search(store.prepare(), process=process):
        if run.info.status == "RUNNING":
            store.client().set_terminated(run.info.run_id, "KILLED")
        status = "FINISHED" if run.info.status == "FINISHED" else "KILLED"
        statuses[run.data.tags.get("prefect.flow_run_id", "")] = status
    return statuses


def running_processes() -> dict[str, str]:
    """Return the process of each Prefect flow run whose MLflow run is RUNNING."""
    running = store.client().search_runs([store.prepare()], "attributes.status = 'RUNNING'")
    return {
        flow_run: run.data.tags["process"]
        for run in running
        if (flow_run := run.data.tags.get("prefect.flow_run_id")) and "process" in run.data.tags
    }


def find_run(**tags: str) -> Run | None:
    """Return a run that has `tags`, if there is one."""
    return next(map(_as_run, _search(store.prepare(), **tags)), None)


def load_profile(run_id: str) -> Profile | None:
    """Return the profile of the data that a run trained on, if it logged one."""
    try:
        return Profile.from_json(mlflow.artifacts.load_dict(f"runs:/{run_id}/{PROFILE}"))
    except MlflowException:
        return None


def _resume_interrupted(fingerprint: str, tags: Mapping[str, str], fresh: bool) -> Run | None:
    """Reopen the latest run with that `fingerprint` that left a checkpoint and whose process is dead."""
    folder = store.in_progress_folder()
    with store.store_lock():
        for run_id in processes.interrupted_runs(folder, fingerprint):
            checkpoint = processes.checkpoint_path(folder, fingerprint, run_id)
            run = _find(run_id)
            if run is None:
                continue
            if run.info.status == "RUNNING" and processes.is_alive(folder, run.data.tags.get("process", "")):
                continue
            if fresh or run.info.status == "FINISHED" or run.info.lifecycle_stage != "active":
                checkpoint.unlink(missing_ok=True)
                continue
            return _reopen(run, tags, checkpoint)
    return None


def _create(experiment_id: str, tags: Mapping[str, str], name: str | None) -> Run:
    return _as_run(store.client().create_run(experiment_id, tags=dict(tags), run_name=name))


def _as_run(run: mlflow.entities.Run) -> Run:
    return Run(run.info.run_id, run.info.experiment_id, run.info.artifact_uri.removeprefix("file://"))


def _find(run_id: str) -> mlflow.entities.Run | None:
    with store.ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST"):  # it is gone, or in another store
        return store.client().get_run(run_id)
    return None


def _reopen(run: mlflow.entities.Run, tags: Mapping[str, str], checkpoint: Path | None = None) -> Run:
    run_id = run.info.run_id
    store.client().update_run(run_id, "RUNNING")
    logged = {name: store.client().get_metric_history(run_id, name)[-1].step for name in run.data.metrics}
    reopened = replace(_as_run(run), checkpoint=checkpoint, logged_steps=logged)
    reopened.set_tags(tags)
    return reopened


def _search(experiment_id: str, **tags: str) -> list[mlflow.entities.Run]:
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    return list(store.client().search_runs([experiment_id], wanted))
