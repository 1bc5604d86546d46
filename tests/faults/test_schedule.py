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

COMMAND = """
from flows import startup
startup.begin()
from flows import cli
options = cli.start(cli.retrain)
from flows.retrain_flow import serve
startup.prepare()
serve("* * * * * */5", options.pop("times").timezone, options)
"""


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
        [sys.executable, "-c", COMMAND, "--cron", "* * * * *", *options],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    yield f"{ui}/api"
    process.terminate()
    assert process.wait(timeout=10) == 128 + signal.SIGTERM


def flow_runs(api: str) -> list[dict[str, str]]:
    try:
        answer = httpx.post(f"{api}/flow_runs/filter", json={"sort": "START_TIME_ASC"}, timeout=10).json()
    except httpx.TransportError:  # it has not booted yet
        return []
    return list(answer)


def test_a_schedule_retrains_on_time_and_runs_never_pile_up(schedule: str) -> None:
    deadline = time.monotonic() + 240
    states: dict[str, list[dict[str, str]]] = {}
    while not {"Completed", "Cancelled"} <= states.keys() and time.monotonic() < deadline:
        time.sleep(0.5)
        states = {}
        for run in flow_runs(schedule):
            states.setdefault(run["state_name"], []).append(run)
    (promoted,) = states["Completed"]
    assert "promoted" in promoted["tags"]  # there was no champion
    assert promoted["deployment_id"]
    assert datetime.fromisoformat(promoted["start_time"]) >= datetime.fromisoformat(promoted["expected_start_time"])
    for cancelled in states["Cancelled"]:  # those that came while it was at work
        assert cancelled["end_time"] <= promoted["end_time"]
