"""A model is brought from one store into another with all that belongs to it, or not at all."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException

from mnist_pipeline.config import FieldError
from mnist_pipeline.tracking import models, pruning, runs, store, transfer, versions
from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.ledger import PRUNED
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.training.model import MLP

REGISTRY = Registry("mnist-mlp")
YES = Decision((Check("floor", True, "good enough"),), {"accuracy": 0.98})
PIXELS = torch.arange(2 * 28 * 28).reshape(2, 28, 28).to(torch.uint8)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with versions 1 and 3, both promoted, a pruned 4, runs in a sweep, one that failed, one that goes on."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('local')}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        store.prepare()
        client = store.client()
        with runs.start_run(params={"trials": 2}, tags={}, name="sweep") as sweep:
            for number in (1, 2, 3, 4):
                _train_version(client, number, sweep.id)
        client.delete_model_version(REGISTRY.name, "2")
        client.delete_registered_model_alias(REGISTRY.name, "challenger")
        pruning.prune(REGISTRY, 4)
        with pytest.raises(ZeroDivisionError), runs.start_run(params={}, tags={}, name="failed"):
            raise ZeroDivisionError
        client.create_run(sweep.experiment_id, run_name="goes on")
        yield uri
    store.prepare()


def _train_version(client: MlflowClient, number: int, sweep: str) -> None:
    with runs.start_run(params={"lr": 0.1}, tags={"mlflow.parentRunId": sweep}, name=f"run {number}") as run:
        for step in (1, 2):
            run.log_metrics({"test_loss": 1 / step / number}, step=step)
        data = Dataset("mnist-training", "d" * 32, "local", '{"uri": "/data"}')
        client.log_inputs(run.id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
        run.log_table([{"class": "0", "recall": 0.9}], "classes")
        torch.manual_seed(number)
        uri = models.log_model(run, MLP(784, [], 10), PIXELS, step=2)
        run.set_tags({"mlflow.note.content": f"[Others]({store.ui_url(f'experiments/{run.experiment_id}/runs')})"})
    REGISTRY.register(run, uri, description=f"Trained by `{run.id}`.", tags={"test_accuracy": "0.98"})
    if number in (1, 3):
        REGISTRY.evaluate_challenger(number, lambda _champion: YES, holdout_sha256="e")


def runs_of(client: MlflowClient) -> dict[str, Any]:
    return {run.info.run_name: run for run in client.search_runs(["1"])}


@pytest.fixture
def original(local: str) -> MlflowClient:
    return MlflowClient(local)


@pytest.fixture
def imported(local: str, empty_store: MlflowClient) -> MlflowClient:
    assert transfer.import_model(local, REGISTRY.name, experiment="mnist") == transfer.Imported(3, 5)
    return empty_store


def test_all_of_a_model_is_imported_once(local: str, original: MlflowClient, imported: MlflowClient) -> None:
    both = [client.get_registered_model(REGISTRY.name) for client in (original, imported)]
    assert both[0].aliases == both[1].aliases == {"champion": 3, "previous_champion": 1}
    assert both[0].description == both[1].description
    assert REGISTRY.versions == [1, 3, 4]
    assert [(entry.version, entry.action) for entry in REGISTRY.history()] == [(1, "promoted"), (3, "promoted")]
    before, after = runs_of(original), runs_of(imported)
    assert after.keys() == before.keys() - {"goes on"} == {"sweep", "run 1", "run 2", "run 3", "failed"}
    for name, run in after.items():
        assert run.data.params == before[name].data.params
        assert run.data.metrics == before[name].data.metrics
        for fact in ("status", "start_time", "end_time", "run_name"):
            assert getattr(run.info, fact) == getattr(before[name].info, fact)
    for number in (1, 3):
        old, new = (version_of(client, number) for client in (original, imported))
        run, origin = after[f"run {number}"], before[f"run {number}"]
        origin_tags = {"imported_from": f"mnist-mlp/{old.source.removeprefix('models:/')}"}
        assert new.tags == old.tags | origin_tags | {"created": str(old.creation_timestamp)}
        assert versions.state(REGISTRY, number).created.timestamp() == old.creation_timestamp / 1000
        assert new.run_id == run.info.run_id != old.run_id
        assert new.description == old.description.replace(old.run_id, new.run_id)
        assert run.data.tags["mlflow.parentRunId"] == after["sweep"].info.run_id
        assert run.inputs.dataset_inputs == origin.inputs.dataset_inputs
        history = [
            client.get_metric_history(each.info.run_id, "test_loss")
            for client, each in ((original, origin), (imported, run))
        ]
        assert history[1] == history[0]
        same_logged_model(original, old.source, imported, new.source)
        assert imported.load_table("1", "classes.json", [run.info.run_id])["recall"].tolist() == [0.9]
    with pytest.raises(ValueError, match="pruned"):
        REGISTRY.promote_by_hand(4, reason="a test")
    assert transfer.import_model(local, REGISTRY.name, experiment="mnist") == transfer.Imported(0, 0)
    assert runs_of(imported).keys() == after.keys()


def version_of(client: MlflowClient, number: int) -> Any:
    return client.get_model_version(REGISTRY.name, str(number))


def same_logged_model(original: MlflowClient, old_uri: str, imported: MlflowClient, new_uri: str) -> None:
    old = original.get_logged_model(old_uri.removeprefix("models:/"))
    new = imported.get_logged_model(new_uri.removeprefix("models:/"))
    assert (new.name, new.model_type, new.status, new.params) == (old.name, old.model_type, old.status, old.params)
    assert [(each.key, each.step, each.value) for each in new.metrics or ()] == [
        (each.key, each.step, each.value) for each in old.metrics or ()
    ]
    assert new.metrics
    info = mlflow.models.get_model_info(new_uri)
    assert (info.model_id, info.run_id) == (new.model_id, new.source_run_id)
    assert info.metadata
    assert info.metadata["classes"][0] == "0"
    assert info.signature.inputs.inputs[0].shape == (-1, 28, 28)
    names = [
        [each.path for each in c.list_logged_model_artifacts(m.model_id)] for c, m in ((original, old), (imported, new))
    ]
    assert names[0] == names[1]


def test_what_was_imported_can_be_imported_again_and_is_tagged_by_the_later_import(
    imported: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = f"sqlite:///{tmp_path}/mlflow.db", f"sqlite:///{tmp_path}/second/mlflow.db"
    (tmp_path / "second").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", second)
    store.prepare()
    assert transfer.import_model(first, REGISTRY.name, experiment="mnist") == transfer.Imported(3, 5)
    originals = runs_of(imported)
    for name, run in runs_of(MlflowClient(second)).items():
        assert run.data.tags[transfer.IMPORTED] == f"{REGISTRY.name}/{originals[name].info.run_id}"


def test_the_imported_champion_predicts_as_the_original_and_can_be_rolled_back(
    local: str, imported: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = models.load_network("models:/mnist-mlp@champion")(PIXELS)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", local)
        store.prepare()
        before = models.load_network("models:/mnist-mlp@champion")(PIXELS)
    store.prepare()
    assert np.array_equal(before, after)
    assert REGISTRY.roll_back(reason="it was better").champion == 1


@pytest.mark.parametrize("step", ["set_terminated", "kill"])
def test_an_import_that_fails_leaves_nothing_and_can_be_repeated(
    local: str, empty_store: MlflowClient, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MlflowException("the disk is full")

    with monkeypatch.context() as patch:
        if step == "kill":  # nothing is tidied up
            patch.setattr(MlflowClient, "search_logged_models", fail)
        patch.setattr(MlflowClient, "set_registered_model_alias" if step == "kill" else step, fail)
        with pytest.raises(MlflowException, match="disk is full"):
            transfer.import_model(local, REGISTRY.name, experiment="mnist")
    assert not empty_store.search_registered_models(f"name = '{REGISTRY.name}'")
    left = [file for file in Path(store.client().get_experiment("1").artifact_location).rglob("*") if file.is_file()]
    assert (bool(runs_of(empty_store)), bool(left)) == ((True, True) if step == "kill" else (False, False))
    monkeypatch.setenv(store.RETRIES, "4")
    transfer.import_model(local, REGISTRY.name, experiment="mnist")
    assert len(runs_of(empty_store)) == 5
    assert [model.name for model in empty_store.search_registered_models()] == [REGISTRY.name]


def test_a_version_that_is_pruned_while_it_is_imported_stops_the_import(
    local: str, empty_store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(Path(local.removeprefix("sqlite:///")).parent, tmp_path / "copy")
    copy = f"sqlite:///{folder}/mlflow.db"
    finalize = MlflowClient.finalize_logged_model

    def prune_meanwhile(client: MlflowClient, *arguments: Any) -> Any:
        MlflowClient(copy).set_model_version_tag(REGISTRY.name, "1", PRUNED, "2026-01-01")
        shutil.rmtree(folder / "mlartifacts")
        return finalize(client, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", prune_meanwhile)
        with pytest.raises(ValueError, match="version 1 of mnist-mlp was pruned while it was imported, so nothing is"):
            transfer.import_model(copy, REGISTRY.name, experiment="mnist")
    assert not empty_store.search_registered_models()


def test_an_import_that_fails_leaves_what_others_brought(
    local: str, imported: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported.rename_registered_model(REGISTRY.name, "renamed")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            transfer.import_model(local, REGISTRY.name, experiment="mnist")
    assert len(runs_of(imported)) == 5
    assert models.load_network("models:/renamed@champion")(PIXELS).isfinite().all()


def test_a_model_of_the_stores_own_is_not_touched(local: str, empty_store: MlflowClient, tmp_path: Path) -> None:
    empty_store.create_registered_model(REGISTRY.name)
    empty_store.create_model_version(REGISTRY.name, str(tmp_path))
    with pytest.raises(ValueError, match="the store has another model mnist-mlp: rename it"):
        transfer.import_model(local, REGISTRY.name, experiment="mnist")
    assert not runs_of(empty_store)


def test_a_model_that_is_registered_meanwhile_is_not_touched(
    local: str, empty_store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = MlflowClient.rename_registered_model

    def register_first(client: MlflowClient, name: str, new_name: str) -> Any:
        empty_store.create_registered_model(new_name)
        empty_store.create_model_version(new_name, str(tmp_path))
        return rename(client, name, new_name)

    monkeypatch.setattr(MlflowClient, "rename_registered_model", register_first)
    with pytest.raises(ValueError, match="the store has another model mnist-mlp: rename it"):
        transfer.import_model(local, REGISTRY.name, experiment="mnist")
    assert not runs_of(empty_store)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("MLmodel", None, "the files of version 3 of mnist-mlp are gone"),
        (store.WEIGHTS, None, "the files of version 3 of mnist-mlp are gone"),
        (store.WEIGHTS, b"PK", "its weights, .*, are damaged"),
    ],
)
def test_a_version_whose_files_are_gone_or_damaged_is_named(
    imported: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    content: bytes | None,
    problem: str,
) -> None:
    model = imported.get_logged_model(version_of(imported, 3).source.removeprefix("models:/"))
    damaged = Path(model.artifact_location) / file
    damaged.unlink() if content is None else damaged.write_bytes(content)
    uri = store.tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    store.prepare()
    with pytest.raises(ValueError, match=problem):
        transfer.import_model(uri, REGISTRY.name, experiment="mnist")


def test_the_store_that_is_imported_from_stays_as_it_is_even_if_it_was_moved(
    imported: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("mlflow.db", "mlartifacts"):
        (tmp_path / name).rename(moved / name)
    before = (moved / "mlflow.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    store.prepare()
    transfer.import_model(f"sqlite:///{moved}/mlflow.db", REGISTRY.name, experiment="mnist")
    assert models.load_network("models:/mnist-mlp@champion")(PIXELS).isfinite().all()
    assert (moved / "mlflow.db").read_bytes() == before
    assert {each.name for each in moved.iterdir()} == {"mlflow.db", "mlartifacts"}


def test_a_file_that_is_no_database_of_mlflows_is_refused_and_left_alone(
    empty_store: MlflowClient, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "notes").write_text("milk")
    with contextlib.closing(sqlite3.connect(folder / "prefect.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num)")
        database.execute("INSERT INTO alembic_version VALUES ('4cb6a7a2a7ba')")
    for name in ("notes", "prefect.db"):
        with pytest.raises(ValueError, match=f"{name} is not a database of MLflow's that version .* can read"):
            transfer.import_model(f"sqlite:///{folder}/{name}", REGISTRY.name, experiment="mnist")
    assert {each.name for each in folder.iterdir()} == {"notes", "prefect.db"}


def test_a_password_in_an_address_is_not_repeated(empty_store: MlflowClient) -> None:
    with pytest.raises(FieldError) as refused:
        transfer.import_model("postgresql://ada:secret@host/mlflow", REGISTRY.name, experiment="mnist")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite:///{}/none.db", "must be the address of an existing database"),
        ("http://tracker:5000", "must be the address of an existing database"),
        ("sqlite:///{}/mlflow.db", "MLFLOW_TRACKING_URI names where to import it"),
    ],
)
def test_an_address_that_cannot_be_imported_from_is_refused(
    empty_store: MlflowClient, tmp_path: Path, address: str, message: str
) -> None:
    with pytest.raises(FieldError, match=message):
        transfer.import_model(address.format(tmp_path), REGISTRY.name, experiment="mnist")


def test_a_model_that_is_not_there_is_named(local: str, empty_store: MlflowClient) -> None:
    with pytest.raises(ValueError, match="there is no model pets-mlp to import: the models there are mnist-mlp"):
        transfer.import_model(local, "pets-mlp", experiment="pets")
