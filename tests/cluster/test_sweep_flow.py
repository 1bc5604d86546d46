"""A sweep on a real Dask cluster: its runs, its end, and a worker that is killed."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, Queue
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.cluster import task_runner
from flows.sweep_flow import Swept, sweep_flow
from flows.train_flow import Trained
from mnist_pipeline.config import Gate, Search
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.space import Space
from tasks.trial import answer_pruning_questions

pytestmark = pytest.mark.cluster
SPACE = Space(layers=(1,), units=(8, 16), batch_size=(512,), optimizer=("adam",), augmentation=(0.0, 0.0))


def kill_a_worker() -> None:
    """Kill the first worker of ours that comes to life and works, and wait a little before."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = status.read_bytes()
                parent = int((status.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
                seconds = int((status.parent / "stat").read_text().rsplit(")", 1)[1].split()[11])
            except (OSError, IndexError):
                continue
            if parent == os.getpid() and b"spawn_main" in words and seconds > 700:  # hundredths: it is at a trial
                os.kill(int(status.parent.name), signal.SIGKILL)
                return
        time.sleep(0.1)


@pytest.fixture(scope="module")
def swept(trained: Trained, source: DataSource) -> State[Any]:
    """Six tiny trials on two workers, one of which is killed at work."""
    threading.Thread(target=kill_a_worker, daemon=True).start()
    search = Search(trials=6, epochs=3, study="digits", workers=2)
    flow = sweep_flow.with_options(task_runner=task_runner(search))
    return flow(search, SPACE, source, Gate(floor=0.5), return_state=True)


def children(sweep_run: str) -> list[Any]:
    return list(MlflowClient().search_runs(["1"], f"tags.`mlflow.parentRunId` = '{sweep_run}'"))


@pytest.fixture(scope="module")
def sweep_run(swept: State[Any]) -> Any:
    (run,) = MlflowClient().search_runs(["1"], "tags.study = 'digits'")
    return run


def test_one_run_for_the_sweep_and_one_child_a_trial(swept: State[Any], sweep_run: Any) -> None:
    assert swept.is_completed()
    assert sweep_run.info.status == "FINISHED"
    runs = children(sweep_run.info.run_id)
    assert sorted(int(run.data.tags["trial"]) for run in runs) == [0, 1, 2, 3, 4, 5]
    for run in runs:
        assert run.info.status == "FINISHED"
        steps = [value.step for value in MlflowClient().get_metric_history(run.info.run_id, "val_accuracy")]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) == 3 or run.data.tags["trial_state"] == "pruned"


def test_the_parent_shows_the_trials(sweep_run: Any) -> None:
    client = MlflowClient()
    figures = {Path(file.path).stem for file in client.list_artifacts(sweep_run.info.run_id, "figures")}
    assert "slices" in figures
    assert "trials.json" in {file.path for file in client.list_artifacts(sweep_run.info.run_id)}
    best = max(run.data.metrics["val_accuracy"] for run in children(sweep_run.info.run_id))
    assert sweep_run.data.metrics["best_val_accuracy"] == pytest.approx(best)


def test_the_best_config_goes_to_the_gate(swept: State[Any], sweep_run: Any) -> None:
    result: Swept = swept.result()
    run = MlflowClient().get_run(result.retrained.trained.run.id)
    assert run.data.tags["sweep"] == "digits"
    assert run.data.tags["sweep_trial"] == str(result.best_trial)
    assert run.data.params["train_size"] == "48000"
    assert result.retrained.entry.action in ("promoted", "rejected")
    assert result.val_accuracy == sweep_run.data.metrics["best_val_accuracy"]


def test_a_sweep_is_resumed_and_no_finished_trial_is_run_again(
    swept: State[Any], sweep_run: Any, source: DataSource
) -> None:
    before = {run.info.run_id: run.info.end_time for run in children(sweep_run.info.run_id)}
    search = Search(trials=7, epochs=3, study="digits", workers=1)
    flow = sweep_flow.with_options(task_runner=task_runner(search))
    again = flow(search, SPACE, source, Gate(floor=0.5), return_state=True)
    assert again.is_completed()
    after = {run.info.run_id: run.info.end_time for run in children(sweep_run.info.run_id)}
    assert len(after) == 7
    assert before.items() <= after.items()


def test_a_trial_is_answered_even_if_the_study_cannot_be_asked() -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
        answer_pruning_questions({}, client, "sweep"),
    ):
        for number in (7, 8):
            Queue("sweep-reports", client=client).put((number, 1, 0.9))
            assert Queue(f"sweep-answer-{number}", client=client).get(timeout=30) == (1, False)
