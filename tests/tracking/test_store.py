"""Where the store is, and how it is created."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mnist_pipeline.config import ROOT
from mnist_pipeline.tracking import store


def test_the_database_is_at_the_projects_root_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store.tracking_uri() == f"sqlite:///{ROOT}/mlflow.db"


def test_processes_that_start_at_once_on_no_database_all_succeed(tmp_path: Path) -> None:
    code = "from mnist_pipeline.tracking import store; print(store.prepare())"
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


def test_studies_are_stored_where_optuna_storage_says(
    empty_store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.study_storage().endswith("/optuna.db")
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://db/optuna")
    assert store.study_storage() == "postgresql://db/optuna"
