"""A registered model with its runs, brought from a local store into the one in use, whole or not at all."""

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url

from mnist_pipeline.config import check
from mnist_pipeline.text import counted
from mnist_pipeline.tracking import sqlite, store, weights
from mnist_pipeline.tracking.all_or_nothing import IMPORT, all_or_nothing, temporary
from mnist_pipeline.tracking.ledger import PRUNED

logger = logging.getLogger(__name__)

IMPORTED = "imported_from"  # tag of what was imported: the model's name and the id of the original
BATCH = 100  # parameters or tags in one call
MAX_METRICS = 1000  # in one call


@dataclass(frozen=True)
class Imported:
    """What an import added."""

    versions: int
    runs: int


def import_model(uri: str, name: str, *, experiment: str) -> Imported:
    """Bring the registered model `name` of the SQLite store `uri` into the store in use; add nothing a second time.

    All versions come along with their numbers, ledger, tags, aliases and logged models, and so do their runs and the
    other ended runs of `experiment`. Ids are new, and replaced wherever they are mentioned. Everything is written under
    another name, and the last step is to rename it: no one sees half of it. Raises `ValueError`, with nothing written,
    if the source has no such model, or the target has another one of that name.
    """
    file = _file(uri)
    with tempfile.TemporaryDirectory() as folder, store.store_lock():  # nothing is registered or promoted meanwhile
        source = _Source(_copied(file, Path(folder) / "mlflow.db"), name, experiment)
        if _is_imported(source):
            return Imported(0, 0)
        with all_or_nothing(name) as written:
            transfer = _Transfer(source, written)
            with _none_pruned_meanwhile(source, file, Path(folder) / "again.db"):
                transfer.copy()
            return transfer.register()


def _copied(file: Path, copy: Path) -> MlflowClient:
    """Copy the database `file`, which stays as it is, and open that."""
    sqlite.copy(file, copy)
    sqlite.relocate(copy, str(file.parent / "mlartifacts"))
    return MlflowClient(sqlite.uri_of(copy))


@contextlib.contextmanager
def _none_pruned_meanwhile(source: "_Source", file: Path, copy: Path) -> Iterator[None]:
    """Raise `ValueError` if a version is pruned within the block: files of it may have gone before they were copied."""
    failed = None
    try:
        yield
    except Exception as error:
        failed = error
    before = {each.version for each in source.pruned}
    now = store.model_versions(source.name, source=_copied(file, copy))
    if pruned := [each.version for each in now if PRUNED in each.tags and each.version not in before]:
        problem = f"version {pruned[0]} of {source.name} was pruned while it was imported, so nothing is imported"
        raise ValueError(f"{problem}: the same command imports what is left") from failed
    if failed:
        raise failed


class _Source:
    """What is to be imported, read before anything is written."""

    def __init__(self, client: MlflowClient, name: str, experiment: str) -> None:
        self.client, self.name, self.experiment = client, name, experiment
        found = client.search_registered_models(f"name = '{name}'")
        if not found:
            known = ", ".join(model.name for model in client.search_registered_models()) or "none"
            raise ValueError(f"there is no model {name} to import: the models there are {known}")
        self.model = found[0]
        self.versions = store.model_versions(name, source=client)
        runs = {each.run_id: run for each in self.versions if each.run_id and (run := self._run(each.run_id))}
        if busy := next((run for run in runs.values() if run.info.status == "RUNNING"), None):
            raise ValueError(
                f"the run {busy.info.run_id} has not ended: import its version once it has; if its process was killed, "
                "the next training there ends it"
            )
        if own := client.get_experiment_by_name(experiment):
            for run in store.pages(client.search_runs, [own.experiment_id], "attributes.status != 'RUNNING'"):
                runs.setdefault(run.info.run_id, run)
        self.runs: list[Run] = sorted(runs.values(), key=lambda run: run.info.start_time)
        outputs = (each for run in self.runs for each in (run.outputs.model_outputs if run.outputs else ()))
        ids = dict.fromkeys([*map(_model_id, self.versions), *(each.model_id for each in outputs)])
        self.models = {model_id: model for model_id in ids if (model := self._model(model_id))}
        self.pruned = [each for each in self.versions if PRUNED in each.tags]
        there = {*self.models, *map(_model_id, self.pruned)}
        if lost := [each.version for each in self.versions if _model_id(each) not in there]:
            remedy = "restore them, or delete it in MLflow's UI; those that a tracking server keeps cannot be imported"
            raise ValueError(f"the files of version {lost[0]} of {name} are gone: {remedy}")
        ended = [run for run in self.runs if run.info.status == "FINISHED" and "trial" not in run.data.tags]
        if bare := [run for run in ended if not Path(run.info.artifact_uri).is_dir()]:
            logger.warning(f"The files of {counted(len(bare), 'run')} are gone")

    def _run(self, run_id: str) -> Run | None:
        with store.ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST"):  # purged
            run = self.client.get_run(run_id)
            return run if run.info.lifecycle_stage == "active" else None
        return None

    def _model(self, model_id: str) -> Any:
        """Return a logged model, or None if it or its files are gone."""
        with store.ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST"):
            model = self.client.get_logged_model(model_id)
            files = Path(model.artifact_location.removeprefix("file://"))
            if all((files / each).is_file() for each in ("MLmodel", store.WEIGHTS)):
                weights.check_weights(files / store.WEIGHTS, model_id)
                return model
        return None


@dataclass
class _Transfer:
    source: _Source
    written: dict[str, str]  # the tag of all that this import writes
    ids: dict[str, str] = field(default_factory=dict)  # of runs and logged models, from old to new
    pages: dict[str, str] = field(default_factory=dict)  # of experiments in MLflow's UI, from old to new

    def copy(self) -> None:
        """Copy runs and logged models, with their files."""
        target = store.client()
        for run in self.source.runs:
            experiment = self._experiment(run.info.experiment_id)
            tags = self.written | {IMPORTED: f"{self.source.name}/{run.info.run_id}"}  # the others once it has ended
            new = target.create_run(experiment, run.info.start_time, tags, run.info.run_name)
            self.ids[run.info.run_id] = new.info.run_id
        for model in self.source.models.values():
            self._copy_model(model)
        for version in self.source.pruned:
            self._note_model(_model_id(version))
        for run in self.source.runs:
            self._copy_run(run)

    def _experiment(self, old: str) -> str:
        name = self.source.client.get_experiment(old).name
        new = store.experiment_id(name)
        page = store.ui_url(f"experiments/{new}/").split("?")[0]
        self.pages[f"{store.LOCAL_UI}/#/experiments/{old}/"] = page
        self.pages[f"{store.LOCAL_UI}/#/experiments/{old}?"] = f"{page.rstrip('/')}?"
        return new

    def _new(self, text: str) -> str:
        """Replace the ids and the addresses of what is imported in `text`."""
        for old, new in self.pages.items():
            text = text.replace(old, new)
        return re.sub(r"\b(m-)?[0-9a-f]{32}\b", lambda found: self.ids.get(found[0], found[0]), text)

    def _copy_model(self, model: Any) -> None:
        target = store.client()
        tags = dict(model.tags) | self.written | {IMPORTED: f"{self.source.name}/{model.model_id}"}
        experiment, run = self._experiment(model.experiment_id), self.ids.get(model.source_run_id)
        new = target.create_logged_model(experiment, model.name, run, tags, dict(model.params), model.model_type)
        self.ids[model.model_id] = new.model_id
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # MLflow's threads outlive a signal
            files = _files_at(model.artifact_location, folder)
            card = Path(files) / "MLmodel"
            text = card.read_text().replace(model.artifact_location, new.artifact_location)
            card.write_text(self._new(text))
            target.log_model_artifacts(new.model_id, files)
        target.finalize_logged_model(new.model_id, model.status)

    def _note_model(self, model_id: str) -> None:
        """Log a model without files: one that was pruned, whose version keeps its place in the ledger."""
        tags = self.written | {IMPORTED: f"{self.source.name}/{model_id}"}
        new = store.client().create_logged_model(store.experiment_id(self.source.experiment), tags=tags)
        self.ids[model_id] = new.model_id

    def _copy_run(self, run: Run) -> None:
        target, new = store.client(), self.ids[run.info.run_id]
        for params in _batched(run.data.params.items(), BATCH):
            target.log_batch(new, params=[Param(key, value) for key, value in params])
        for metrics in _batched(self._metrics(run), MAX_METRICS):
            target.log_batch(new, metrics=metrics)
        if run.inputs and run.inputs.dataset_inputs:
            store.write_shared(target.log_inputs, new, run.inputs.dataset_inputs)
        logged = [each for each in (run.outputs.model_outputs if run.outputs else ()) if each.model_id in self.ids]
        if logged:
            target.log_outputs(new, [LoggedModelOutput(self.ids[each.model_id], each.step) for each in logged])
        if self.source.client.list_artifacts(run.info.run_id):
            target.log_artifacts(new, _files_at(run.info.artifact_uri))
        own = (each for each in run.data.tags.items() if each[0] not in (IMPORT, IMPORTED))  # of an earlier import
        for tags in _batched(own, BATCH):
            target.log_batch(new, tags=[RunTag(key, self._new(value)) for key, value in tags])
        target.set_terminated(new, run.info.status, run.info.end_time)

    def _metrics(self, run: Run) -> list[Metric]:
        """Return the run's metrics with all steps, those that belong to a logged model as such."""
        models = {
            (each.key, each.timestamp, each.step): self.ids[model.model_id]
            for model in self.source.models.values()
            for each in model.metrics or ()
            if each.run_id == run.info.run_id
        }
        return [
            Metric(each.key, each.value, each.timestamp, each.step, models.get((each.key, each.timestamp, each.step)))
            for name in run.data.metrics
            for each in self.source.client.get_metric_history(run.info.run_id, name)
        ]

    def register(self) -> Imported:
        """Register the versions, and give the model its name."""
        target, model, name = store.client(), self.source.model, temporary(self.source.name)
        for key, value in model.tags.items():
            target.set_registered_model_tag(name, key, value)
        target.update_registered_model(name, model.description)
        number, fillers = 0, []
        for version in self.source.versions:
            model_id, run = self.ids[_model_id(version)], self.ids.get(version.run_id or "")
            uri = f"models:/{model_id}"
            while (number := number + 1) < int(version.version):  # a version that was deleted: numbers stay
                target.create_model_version(name, uri, model_id=model_id)  # which a server requires
                fillers.append(str(number))
            tags = {key: self._new(value) for key, value in version.tags.items()}
            tags |= {IMPORTED: f"{self.source.name}/{_model_id(version)}", store.CREATED: str(store.created(version))}
            new = target.create_model_version(
                name, uri, run, tags, description=self._new(version.description or ""), model_id=model_id
            )
            assert int(new.version) == number
        for filler in fillers:
            target.delete_model_version(name, filler)
        for alias, version in model.aliases.items():
            target.set_registered_model_alias(name, alias, str(version))
        try:
            target.rename_registered_model(name, self.source.name)
        except MlflowException:
            _is_imported(self.source)  # raises if another process has registered a model of that name meanwhile
            raise
        target.delete_registered_model_tag(self.source.name, IMPORT)
        return Imported(len(self.source.versions), len(self.source.runs))


def _file(uri: str) -> Path:
    """Return the file of a SQLite address. Raises `FieldError` unless it exists, and is not the store in use."""
    wanted = "the address of an existing database, such as sqlite:////home/me/project/mlflow.db"
    check(re.match(r"sqlite:///.", uri) is not None, "from", store.without_password(uri), wanted)
    uri = sqlite.absolute_uri(uri)
    file = Path(make_url(uri).database or "").resolve()
    check(file.is_file(), "from", uri, wanted)
    is_same = sqlite.uri_of(file) == store.tracking_uri()
    check(not is_same, "from", uri, "another store than that in use: MLFLOW_TRACKING_URI names where to import it")
    return file


def _files_at(location: str, folder: str | None = None) -> str:
    """Return the folder with the files at `location`, copied into `folder` if one is given."""
    try:
        return mlflow.artifacts.download_artifacts(location, dst_path=folder)
    except MlflowException as error:
        *_, reason = str(error).strip().splitlines()
        raise ValueError(f"the files in {location} cannot be read: {reason}") from error


def _is_imported(source: _Source) -> bool:
    """Return whether all of it is in the store already. Raises `ValueError` if that has another model of the name."""
    target, name = store.client(), source.name
    if not target.search_registered_models(f"name = '{name}'"):
        return False
    there = {int(each.version): each.tags.get(IMPORTED) for each in store.model_versions(name)}
    new = [int(each.version) for each in source.versions if there.get(int(each.version)) != f"{name}/{_model_id(each)}"]
    if len(new) < len(source.versions) and new:
        raise ValueError(
            f"{name} was imported before its version {new[0]} was made: train that where it was imported to, or delete "
            "the model there in MLflow's UI and import it again"
        )
    if new:
        raise ValueError(f"the store has another model {name}: rename it in MLflow's UI, or import elsewhere")
    return True


def _model_id(version: Any) -> str:
    return store.logged_model_id(version) or str(version.source)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:  # itertools' own is Python 3.12's
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
