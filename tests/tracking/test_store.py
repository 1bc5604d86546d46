"""Where the store is, how it is created, and what is said if it cannot be used."""

import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from mnist_pipeline.config import ROOT
from mnist_pipeline.tracking import runs, sqlite, store


def test_the_database_is_at_the_projects_root_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store.tracking_uri() == f"sqlite:///{ROOT}/mlflow.db"


def test_processes_that_start_at_once_on_no_database_all_succeed(tmp_path: Path) -> None:
    code = "from mnist_pipeline.tracking import store; store.prepare(); print(store.experiment_id('mnist'))"
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert {process.communicate()[0].strip() for process in starts} == {"1"}


def test_experiments_that_are_made_at_the_same_moment_have_all_their_tags(empty_store: MlflowClient) -> None:
    with ThreadPoolExecutor(4) as threads:
        for name in ("a", "b", "c"):
            (made,) = set(threads.map(store.experiment_id, [name] * 4))
            assert empty_store.get_experiment(made).tags.keys() >= store.EXPERIMENT_TAGS.keys()


def test_studies_are_stored_where_optuna_storage_says(
    empty_store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.study_storage().endswith("/optuna.db")
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:////elsewhere/studies.db")
    assert store.study_storage() == "sqlite:////elsewhere/studies.db"


def test_a_project_that_was_moved_is_told_so_once(
    empty_store: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = '/before/mlartifacts'")
    for _ in range(3):  # as at the start of a command, and once a minute in a schedule
        store.prepare()
    assert [record.message for record in caplog.records] == [
        f"The project was moved or copied: its artifacts are now those in {tmp_path}/mlartifacts"
    ]


def test_a_relative_address_is_the_same_file_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere/runs.db")
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///studies.db?timeout=5")
    monkeypatch.chdir(tmp_path)
    assert store.tracking_uri() == f"sqlite:///{ROOT}/elsewhere/runs.db"
    assert store.in_progress_folder() == ROOT / "elsewhere" / "in_progress"
    assert store.study_storage() == f"sqlite:///{ROOT}/studies.db?timeout=5"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1:5000", "mlruns", "file:///tmp/mlruns", "postgres://me:secret@db/mlflow"),
        *("sqlite://", "sqlite:///:memory:", "sqlite:////tmp", "sqlite:////data/what?/runs.db"),
    ],
)
def test_an_address_of_another_kind_is_refused_with_examples(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(sqlite.StoreError) as error:
        store.prepare()
    assert str(error.value).startswith("MLFLOW_TRACKING_URI must be an address such as http://tracker:5000, sqlite:///")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:5000", "nowhere"])
def test_an_address_that_keeps_no_studies_is_refused_with_examples(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", address)
    with pytest.raises(
        sqlite.StoreError, match=rf"^OPTUNA_STORAGE must be an address such as sqlite:.*, not {address}$"
    ):
        store.study_storage()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("API request to endpoint failed with error code 401 != 200", "set MLFLOW_TRACKING_USERNAME and"),
        ("max_retries value (20) is in excess of the maximum allowable retries (10)", "to at most 10"),
        ("Read timed out", "once it answers, run the same command again"),
    ],
)
def test_an_error_of_a_tracking_server_comes_with_a_remedy(
    error: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    expected = f"tracking server http://tracker:5000 failed: .*; .*{remedy}"
    with pytest.raises(sqlite.StoreError, match=expected), store.as_store_errors():
        raise MlflowException(error)


def test_an_error_names_the_store_that_failed() -> None:
    with (
        pytest.raises(sqlite.StoreError, match=r"^the database sqlite:///studies.db failed: "),
        store.as_store_errors(),
        store.as_store_errors("sqlite:///studies.db"),
    ):
        raise OperationalError("SELECT 1", None, Exception("no"))


def test_a_database_without_its_driver_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)  # as if it were not installed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db/mlflow")
    with pytest.raises(sqlite.StoreError, match=r"driver is missing \(psycopg2\): pip install .*cluster"):
        store.prepare()


def test_a_database_that_another_program_holds_is_said_to_be_in_use(
    empty_store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.1)
    sqlite.check_database.cache_clear()
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as backup:
        backup.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite.StoreError, match=r"mlflow.db is locked: another program is using it") as error:
            store.prepare()
    assert "move it away" not in str(error.value)


def test_a_copy_of_a_project_whose_database_is_locked_is_said_to_be_in_use(
    empty_store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/copy/mlflow.db")
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.1)
    with closing(sqlite3.connect(tmp_path / "copy" / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite.StoreError, match="locked; another program is using it"), store.as_store_errors():
            store.prepare()


def test_a_database_that_was_moved_away_is_not_made_anew(empty_store: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
    with pytest.raises(sqlite.StoreError, match=r"mlflow\.db is gone: put it back"):
        store.client()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_database_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:9/mlflow")
    with pytest.raises(sqlite.StoreError, match="Connection refused") as error, store.as_store_errors():
        store.prepare()
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_deleted_experiment_is_restored_with_its_runs_by_the_next_run(
    empty_store: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    before = empty_store.create_run("1").info.run_id
    empty_store.delete_experiment("1")
    store.prepare()
    with runs.start_run(params={}, tags={}) as run:
        pass
    assert (run.experiment_id, empty_store.get_run(before).info.lifecycle_stage) == ("1", "active")
    assert "The experiment mnist had been deleted: it is restored" in caplog.text


def test_an_experiment_of_version_0_1_gets_the_view_that_shows_the_accuracies(empty_store: MlflowClient) -> None:
    store.prepare()
    empty_store.create_experiment("pets", tags={"mlflow.note.content": "mine"})
    tags = empty_store.get_experiment(store.experiment_id("pets")).tags
    assert "metrics.`holdout_accuracy`" in tags[f"mlflow.sharedViewState.{store.VIEW}"]
    assert tags["mlflow.note.content"] == "mine"


@pytest.mark.parametrize("with_artifacts", [True, False])
def test_a_copied_project_never_writes_into_the_originals_artifacts(
    empty_store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_artifacts: bool
) -> None:
    with runs.start_run(params={}, tags={}) as run:
        run.log_table([{"trial": 0}], "trials")
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "mlflow.db", copy)
    if with_artifacts:
        shutil.copytree(tmp_path / "mlartifacts", copy / "mlartifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}/mlflow.db")
    for _ in range(2):  # what it writes itself does not change where the rest is looked for
        with runs.start_run(params={}, tags={}) as new:
            new.log_table([{"trial": 1}], "trials")
        assert new.artifacts.startswith(f"{copy}/mlartifacts/")
        old = store.client().get_run(run.id).info.artifact_uri
        assert old.startswith(f"{copy if with_artifacts else tmp_path}/mlartifacts/")
        assert store.client().load_table(run.experiment_id, "trials.json", [run.id])["trial"].tolist() == [0]


@pytest.mark.slow
def test_studies_that_another_program_holds_are_said_to_be_in_use(empty_store: MlflowClient, tmp_path: Path) -> None:
    optuna.create_study(storage=store.study_storage())
    with closing(sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        in_use = r"optuna\.db failed: .*locked; another program is using it"
        with pytest.raises(sqlite.StoreError, match=in_use), store.as_store_errors(store.study_storage()):
            optuna.get_all_study_names(store.study_storage())
