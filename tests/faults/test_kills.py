"""Commands that are killed, interrupted, and run at once: nothing is lost and nothing is left behind."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path
from uuid import UUID

import mlflow
import pytest

from mnist_pipeline.tracking import models
from tests.faults.conftest import KILLS, TINY, MakeProject, Project, reach, succeeds
from tests.servers import eventually


@pytest.fixture
def project(make_project: MakeProject, tmp_path: Path) -> Project:
    """One with nothing: that it makes its databases and fetches its data is disturbed, too."""
    return make_project(tmp_path / "project", fresh=True)


def statuses(project: Project) -> Counter[str]:
    return Counter(run.info.status for run in runs(project))


def runs(project: Project) -> list:  # type: ignore[type-arg]
    return list(project.mlflow.search_runs(["1"])) if project.database.exists() else []


def prefect_states(project: Project) -> dict[str, str]:
    """Return the state of each flow run in Prefect's database."""
    with contextlib.closing(sqlite3.connect(project.home / "prefect.db")) as database:
        return {str(UUID(run)): state for run, state in database.execute("SELECT id, state_type FROM flow_run")}


def check_champion(project: Project) -> None:
    """If there is a champion, it can be loaded."""
    if project.database.exists() and project.mlflow.search_registered_models():
        aliases = project.mlflow.get_registered_model("mnist-mlp").aliases
        if "champion" in aliases:
            mlflow.set_tracking_uri(f"sqlite:///{project.database}")
            models.load_network("models:/mnist-mlp@champion")


def check_all_is_well(project: Project, finished: int) -> None:
    """Check that so many runs finished, each with every epoch once and a version, and that nothing else is left."""
    assert statuses(project)["FINISHED"] == finished
    assert statuses(project)["RUNNING"] == 0
    whole = [run for run in runs(project) if run.info.status == "FINISHED"]
    for run in whole:
        history = project.mlflow.get_metric_history(run.info.run_id, "train_loss")
        assert [metric.step for metric in history] == [1, 2, 3]
    versions = project.mlflow.search_model_versions("name = 'mnist-mlp'")
    assert sorted(str(version.run_id) for version in versions) == sorted(run.info.run_id for run in whole)
    assert not set(prefect_states(project).values()) & {"RUNNING", "PENDING", "CANCELLING"}
    eventually(lambda: not project.servers())
    leftovers = [*(project.root / "in_progress").iterdir(), *project.root.rglob("*.partial")]
    assert not leftovers


def test_after_kills_at_any_moment_the_next_command_succeeds(
    project: Project, chance: random.Random, lasts: float
) -> None:
    for number in range(KILLS):  # spread over the command, from its first import to after the registration
        when = lasts * (number + chance.random()) / KILLS
        process = project.train()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=when)
        process.kill()
        process.wait()
        check_champion(project)
    finished = statuses(project)["FINISHED"]
    project.trains()
    check_all_is_well(project, finished + 1)
    check_champion(project)


PATIENT = ["--epochs", "30", "--hidden", "16", "--batch-size", "128", "--lr", "0.03"]
PATIENT += ["--validation", "0.1", "--patience", "3"]


def stopped_early(project: Project) -> tuple[str, str, list[float], bytes]:
    """Return the best epoch of the project's only run, why it stopped, each epoch's loss, and the weights."""
    (run,) = runs(project)
    (weights,) = project.root.glob("mlartifacts/**/state_dict.pt")
    losses = [metric.value for metric in project.mlflow.get_metric_history(run.info.run_id, "val_loss")]
    return run.data.tags["best_epoch"], run.data.tags["stopped"], losses, weights.read_bytes()


def test_a_training_with_patience_that_is_killed_ends_with_the_same_best_weights(
    make_project: MakeProject, tmp_path: Path, prefect_api: str
) -> None:
    whole, killed = make_project(tmp_path / "whole"), make_project(tmp_path / "killed")
    for project in (whole, killed):
        project.environment["PREFECT_API_URL"] = prefect_api
    whole.trains(*PATIENT)
    best, _, losses, _ = stopped_early(whole)
    assert len(losses) == int(best) + 3
    after_the_best = range(1, len(losses), 2)[-1]  # odd: another epoch may have been kept by the time of the kill
    process = killed.train(*PATIENT)
    reach(process, f"Epoch: {after_the_best}/")
    process.kill()
    process.wait()
    assert "Resuming the MLflow run" in killed.trains(*PATIENT)
    assert stopped_early(killed) == stopped_early(whole)


def test_after_a_signal_both_states_agree_and_the_next_command_resumes(
    project: Project, chance: random.Random, lasts: float
) -> None:
    slowest = 0.0
    for sign in [signal.SIGINT, signal.SIGTERM] * max(1, KILLS // 8):
        when = chance.uniform(2, lasts)  # before that, not even Python listens
        process = project.train()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=when)
        begun = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)  # as a terminal's Ctrl-C does
        process.wait(timeout=60)
        slowest = max(slowest, time.monotonic() - begun)
        process.communicate(timeout=60)  # by then its API has ended, too
        states = prefect_states(project) if runs(project) else {}
        for run in runs(project):
            # A signal after the last of its work: the next command corrects it.
            expected = {"FINISHED": {"COMPLETED", "CRASHED"}, "KILLED": {"CRASHED"}}[run.info.status]
            assert states[run.data.tags["prefect.flow_run_id"]] in expected
    finished = statuses(project)["FINISHED"]
    project.trains()
    check_all_is_well(project, finished + 1)
    states = prefect_states(project)
    ended = [run for run in runs(project) if run.info.status == "FINISHED"]
    assert {states[run.data.tags["prefect.flow_run_id"]] for run in ended} == {"COMPLETED"}
    print(f"Ended within {slowest:.1f} s")


def test_four_trainings_at_once_on_no_database_all_succeed(project: Project) -> None:
    for process in [project.train(*TINY, "--seed", str(seed)) for seed in range(4)]:
        succeeds(process)
    check_all_is_well(project, 4)
    aliases = project.mlflow.get_registered_model("mnist-mlp").aliases
    assert len(aliases) == 2
    assert aliases["champion"] != aliases["challenger"]
