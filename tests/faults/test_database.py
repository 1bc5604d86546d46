"""A database that is damaged, too new, too old, read-only, or that was moved; names with odd letters."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
from alembic import command
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine

from mnist_pipeline.tracking import models, store
from tests.faults.conftest import MakeProject, Project, fails, read_only, succeeds

HISTORY = ["flows/champion.py", "history"]
A_YEAR_OLD = "bf29a5ff90ea"  # the schema's version in MLflow 3.4


def complaint(project: Project, *words: str) -> str:
    """Check that a command fails with the database unchanged byte for byte; return its one line."""
    before = project.database.read_bytes()
    (line,) = fails(project.start(*(words or HISTORY))).splitlines()
    assert project.database.read_bytes() == before
    assert str(project.database) in line
    return line


@pytest.mark.parametrize("harm", ["nonsense", "cut", "overwritten", "another program's"])
def test_a_damaged_database_is_named_and_left_unchanged(harm: str, project: Project, used: Project) -> None:
    content = bytearray(used.database.read_bytes())
    if harm == "nonsense":
        content[:] = b"nonsense" * 1000
    elif harm == "cut":
        del content[len(content) // 2 :]
    elif harm == "overwritten":
        content[4096 : len(content) // 2] = bytes(len(content) // 2 - 4096)
    project.database.write_bytes(content)
    if harm == "another program's":
        project.database.unlink()
        with closing(sqlite3.connect(project.database)) as database, database:
            database.execute("CREATE TABLE recipes (name TEXT)")
    line = complaint(project)
    assert "is damaged, or not MLflow's" in line
    assert "move it away to start with an empty one" in line


def test_a_database_of_a_newer_mlflow_is_refused_and_left_unchanged(project: Project, used: Project) -> None:
    shutil.copy(used.database, project.database)
    with closing(sqlite3.connect(project.database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'feedbeef2030'")
    assert "is of a newer MLflow than" in complaint(project)


def test_a_database_of_an_older_mlflow_is_copied_before_it_is_upgraded(project: Project) -> None:
    project.database.unlink()
    url = f"sqlite:///{project.database}"
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = _get_alembic_config(url)  # type: ignore[no-untyped-call]
        config.attributes["connection"] = connection
        command.upgrade(config, A_YEAR_OLD)
    with closing(sqlite3.connect(project.database)) as database, database:
        database.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'old', 'active')")
    output = fails(project.start(*HISTORY))
    backup = project.database.with_name(f"mlflow.db.{A_YEAR_OLD}.backup")
    assert f"a copy of it as it was is in {backup}" in output
    assert "train one first" in output
    for file, version in ((backup, True), (project.database, False)):
        with closing(sqlite3.connect(file)) as database:
            (found,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
            assert (found == A_YEAR_OLD) == version
            assert database.execute("SELECT name FROM experiments WHERE experiment_id = 7").fetchone() == ("old",)


def test_a_read_only_database_is_named(project: Project) -> None:
    fails(project.start(*HISTORY))
    with read_only(project.root):
        assert "is read-only: make the file and its folder writable" in complaint(project)
        home = str(project.root.parent / "prefect")
        assert "is read-only" in fails(project.train(PREFECT_HOME=home)).splitlines()[-1]


def test_a_project_that_was_moved_finds_its_models_again(
    project: Project, make_project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.trains()
    moved = tmp_path / "moved to 'here'"
    shutil.move(project.root, moved)
    old = MlflowClient(f"sqlite:///{moved}/mlflow.db")
    (run,) = old.search_runs(["1"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}/mlflow.db")
    store.prepare()
    models.load_network("models:/mnist-mlp@champion")
    mlflow.pyfunc.load_model("models:/mnist-mlp@champion")
    assert {figure.path for figure in old.list_artifacts(run.info.run_id, "figures")}
    with closing(sqlite3.connect(moved / "mlflow.db")) as database:
        for table, column in {"runs": "artifact_uri", "logged_models": "artifact_location"}.items():
            assert not database.execute(f"SELECT 1 FROM {table} WHERE {column} LIKE '%/project/%'").fetchall()


def test_paths_may_have_spaces_quotes_and_non_ascii_letters(make_project: MakeProject, tmp_path: Path) -> None:
    root = tmp_path / 'Zoë "数字" #1; & $HOME *'
    project = make_project(root)
    project.trains()
    out = root / "pré dictions' %41?.csv"
    images = root / "image's ?%20.npy"
    np.save(images, np.zeros((3, 28, 28), np.uint8))
    succeeds(project.start("flows/predict_flow.py", f"flows/../{images.name}", "--out", f"flows/../{out.name}"))
    assert len(out.read_text().splitlines()) == 4


@pytest.mark.parametrize("letter", ["%", "?", "'"])
def test_a_path_that_a_database_would_misread_is_refused(
    letter: str, make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(tmp_path / f"a{letter}41b")
    (line,) = fails(project.train()).splitlines()
    assert "rename the folder" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == [project.root.name]
