"""The real scheduler: a served retraining runs on time, and runs never pile up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from mnist_pipeline.config import ROOT
from mnist_pipeline.data.source import DataSource
from tests.servers import free_port

COMMAND = [sys.executable, str(ROOT / "flows" / "retrain_flow.py")]


@pytest.fixture
def schedule(source: DataSource, tmp_path: Path) -> Iterator[str]:
    """A retraining every five seconds, with a Prefect server and databases of its own; returns the URL of its API."""
    ui = f"http://127.0.0.1:{free_port()}"
    own = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_UI_URL": ui,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | own
    options = ["--recipe", "fast", "--epochs", "1", "--floor", "0.9", "--data-dir", str(source.data_dir)]
    process = subprocess.Popen(
        [*COMMAND, "--cron", "* * * * * */5", *options], cwd=tmp_path, env=environment, start_new_session=True
    )
    yield f"{ui}/api"
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=30)


def flow_runs(api: str) -> list[dict[str, str]]:
    try:
        answer = httpx.post(f"{api}/flow_runs/filter", json={"sort": "START_TIME_ASC"}, timeout=10).json()
    except httpx.TransportError:  # it has not booted yet
        return []
    return list(answer)


def test_a_schedule_retrains_on_time_and_runs_never_pile_up(schedule: str) -> None:
    deadline = time.monotonic() + 100
    states: dict[str, list[dict[str, str]]] = {}
    while not {"Promoted", "Cancelled"} <= states.keys() and time.monotonic() < deadline:
        time.sleep(0.5)
        states = {}
        for run in flow_runs(schedule):
            states.setdefault(run["state_name"], []).append(run)
    (promoted,) = states["Promoted"]  # there was no champion
    assert promoted["deployment_id"]
    assert datetime.fromisoformat(promoted["start_time"]) >= datetime.fromisoformat(promoted["expected_start_time"])
    for cancelled in states["Cancelled"]:  # those that came while it was at work
        assert cancelled["end_time"] <= promoted["end_time"]
