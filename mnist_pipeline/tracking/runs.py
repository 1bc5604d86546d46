"""MLflow runs: opened, logged to, resumed and ended."""

import contextlib
import json
import tempfile
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
from mnist_pipeline.data import manifest
from mnist_pipeline.data.drift import Profile
from mnist_pipeline.data.splits import Examples, Splits
from mnist_pipeline.tracking import once, processes, store
from mnist_pipeline.tracking.logged import MANIFEST, PROFILE
from mnist_pipeline.training.loop import Epoch

TABLES_TAG = "mlflow.loggedArtifacts"  # where MLflow lists a run's tables
FLOW_RUN_ID = "prefect.flow_run_id"  # the tag that names a run's flow run
MAX_NAME = 250  # letters


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
        """The run's page in MLflow's UI."""
        return store.ui_url(f"experiments/{self.experiment_id}/runs/{self.id}")

    @property
    def tags(self) -> dict[str, str]:
        return dict(store.client().get_run(self.id).data.tags)

    @property
    def comparison_url(self) -> str:
        """The page of all runs of the same dataset, with their accuracies."""
        return store.ui_url(f"experiments/{self.experiment_id}/runs", viewStateShareKey=store.VIEW)

    def delete_checkpoint(self) -> None:
        if self.checkpoint:
            self.checkpoint.unlink(missing_ok=True)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters, a tuple as a list."""
        values = {name: str(list(value) if isinstance(value, tuple) else value) for name, value in params.items()}
        store.client().log_batch(self.id, params=[Param(name, value) for name, value in values.items()])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Log metrics at `step`, except those that were logged before the run was interrupted."""
        now = round(time.time() * 1000)
        new = {name: value for name, value in metrics.items() if self.logged_steps.get(name, -1) < step}
        batch = [Metric(name, value, now, step) for name, value in new.items()]
        store.client().log_batch(self.id, metrics=batch)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        store.client().log_batch(self.id, tags=[RunTag(name, value) for name, value in tags.items()])

    def log_epoch(self, epoch: Epoch) -> None:
        """Log the losses and accuracies of an epoch, with its number as the step."""
        metrics = {"train_loss": epoch.train_loss, "last_batch_loss": epoch.last_batch_loss}
        for name, score in (("test", epoch.test), ("val", epoch.val)):
            if score:
                metrics |= {f"{name}_loss": score.loss, f"{name}_accuracy": score.accuracy}
        self.log_metrics(metrics, step=epoch.number)

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
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        store.write_shared(store.client().log_inputs, self.id, inputs)  # it is one row for all runs of these data

    def log_figure(self, figure: Figure, name: str) -> bytes:
        """Log a figure as `figures/NAME.png`, and return that file's content."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.png"
            figure.savefig(file, pil_kwargs={"compress_level": 1})  # the default takes a third longer to draw
            store.client().log_artifact(self.id, str(file), "figures")
            return file.read_bytes()

    def log_html(self, html: str, name: str) -> None:
        """Log a page as `NAME.html`."""
        store.client().log_text(self.id, html, f"{name}.html")

    def log_table(self, rows: list[dict[str, object]], name: str) -> None:
        """Log a table as MLflow's `log_table` does, but replace the one that a resumed run logged before."""
        file, columns = f"{name}.json", list({column: None for row in rows for column in row})
        store.client().log_dict(self.id, {"columns": columns, "data": [[*map(row.get, columns)] for row in rows]}, file)
        tables = json.loads(store.client().get_run(self.id).data.tags.get(TABLES_TAG, "[]"))
        if file not in (table["path"] for table in tables):
            self.set_tags({TABLES_TAG: json.dumps([*tables, {"path": file, "type": "table"}])})

    def log_file(self, file: Path) -> None:
        """Log a copy of `file`, under its name."""
        store.client().log_artifact(self.id, str(file))

    def log_manifest(self, splits: Splits) -> None:
        """Log which images were used, and for what."""
        with tempfile.TemporaryDirectory() as folder:
            manifest.write(splits, file := Path(folder) / MANIFEST)
            self.log_file(file)

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
    experiment: str = "mnist",
) -> Iterator[Run]:
    """Open a run; it ends FINISHED, FAILED after an exception, or KILLED after a signal.

    A `fingerprint` identifies all that decides what comes out. If a run with the same one was interrupted, that run is
    opened again, unless a `fresh` start is wanted; its training resumes from its checkpoint. A `run_id` opens that run
    again, if it exists.
    """
    store.prepare()
    folder = store.in_progress_folder()
    tags = dict(tags) | {"process": processes.process_id(folder)}
    run = None
    if run_id and (found := _find(run_id)) and found.info.lifecycle_stage == "active":
        run = _reopen(found, tags)
    if fingerprint:
        tags |= {"fingerprint": fingerprint}
        run = _resume_interrupted(fingerprint, tags, fresh)
    is_new = run is None
    if run is None:
        run = _create(store.experiment_id(experiment), tags, name)
        if fingerprint:
            run = replace(run, checkpoint=processes.checkpoint_path(folder, fingerprint, run.id))
    with _ended(run):
        if is_new:
            run.log_params(params)
        try:
            yield run
        except FloatingPointError:  # the loss is not finite, and would not be after the same steps again
            run.delete_checkpoint()
            raise
    run.delete_checkpoint()


@contextlib.contextmanager
def start_trial(sweep: str, number: int, config: TrainConfig, *, process: str) -> Iterator[Run]:
    """Open the run of a trial, a child of the run `sweep`; a trial that is run again reopens its own."""
    store.prepare()
    experiment_id = store.client().get_run(sweep).info.experiment_id
    tags = {"mlflow.parentRunId": sweep, "trial": str(number)}
    existing = next(_search([experiment_id], **tags), None)
    tags["process"] = process
    run = _reopen(existing, tags) if existing else _create(experiment_id, tags, f"trial-{number}")
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
            run.set_tags({"error": store.without_password(str(error))[:1000]})
        raise


def close_runs(process: str) -> dict[str, str]:
    """End as KILLED the runs that a dead process left RUNNING.

    Return for each Prefect flow run of it whether all of its runs are FINISHED, or else KILLED.
    """
    statuses: dict[str, str] = {}
    for run in _search(_experiments(), process=process):
        if run.info.status == "RUNNING":
            store.client().set_terminated(run.info.run_id, "KILLED")
        flow_run = run.data.tags.get(FLOW_RUN_ID, "")
        finished = run.info.status == "FINISHED" and statuses.get(flow_run) != "KILLED"  # all of its runs
        statuses[flow_run] = "FINISHED" if finished else "KILLED"
    return statuses


def running_processes() -> dict[str, str]:
    """Return the process of each Prefect flow run whose MLflow run is RUNNING."""
    return {
        flow_run: run.data.tags["process"]
        for run in store.pages(store.client().search_runs, _experiments(), "attributes.status = 'RUNNING'")
        if (flow_run := run.data.tags.get(FLOW_RUN_ID)) and "process" in run.data.tags
    }


def name_of(run_id: str | None) -> str:
    """Return the name of a run, which for a training is its config; nothing if it is gone."""
    with store.ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return str(store.client().get_run(run_id or "none").info.run_name)
    return ""


def find_run(**tags: str) -> Run | None:
    """Return a run that has `tags`, if there is one."""
    return next(map(_as_run, _search(_experiments(), **tags)), None)


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
    return _as_run(once.create_run(experiment_id, tags, name and name[:MAX_NAME]))


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
    reopened.set_tags({"error": ""} | dict(tags))
    return reopened


def _experiments() -> list[str]:
    """Return the ids of all experiments: there is one for each dataset, and those that version 0.1 used for all."""
    store.prepare()
    return [experiment.experiment_id for experiment in store.client().search_experiments()]


def _search(experiment_ids: list[str], **tags: str) -> Iterator[mlflow.entities.Run]:
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    return store.pages(store.client().search_runs, experiment_ids, wanted)
