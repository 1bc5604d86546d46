"""The command as its users type it, each time in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import FlowRunSort

from mnist_pipeline.config import ROOT
from mnist_pipeline.data.source import DataSource
from tests.servers import children

COMMAND = [sys.executable, str(ROOT / "flows" / "train_flow.py")]


def run(*options: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *options], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--lr", "-1"], "--lr must be a positive number, not -1.0"),
        (["--optimizer", "foo"], 'Invalid value "foo" for --optimizer. Choose from: "sgd",'),
        (["--hidden", "0"], "--hidden must be at least 1 unit a layer, not 0"),
        (["--epochs", "many"], 'Invalid value for --epochs: unable to convert "many" into int.'),
        (["--frobnicate"], "Unknown option: --frobnicate."),
        (["--recipe", "foo"], 'Invalid value "foo" for --recipe. Choose from: "reference", "fast",'),
        (["--mirror", "nowhere"], "--mirror must be a URL"),
    ],
)
def test_a_bad_value_ends_in_one_line_before_anything_is_written(
    options: list[str], complaint: str, tmp_path: Path
) -> None:
    result = run(*options, "--data-dir", str(tmp_path / "data"), cwd=tmp_path)
    (line,) = result.stderr.splitlines()
    assert complaint in line
    assert result.returncode != 0
    assert not list(tmp_path.iterdir())


def test_help_shows_every_knob_with_its_default(tmp_path: Path) -> None:
    result = run("--help", cwd=tmp_path)
    for option in ("--epochs", "--lr", "--batch-size", "--hidden", "--optimizer", "--dropout", "--seed", "--mirror"):
        assert option in result.stdout
    assert "[default: 0.001]" in result.stdout


def test_a_recipe_changes_the_defaults(tmp_path: Path) -> None:
    result = run("--recipe", "fast", "--help", cwd=tmp_path)
    assert "[default: 0.01]" in result.stdout


def test_it_works_from_any_folder_and_leaves_nothing_there(
    prefect_api: str, source: DataSource, tmp_path: Path
) -> None:
    options = ["--epochs", "1", "--hidden", "30", "20", "--data-dir", str(source.data_dir)]
    result = run(*options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Epoch: 1/1, Loss: 0." in result.stderr
    assert "/12,000 (9" in result.stdout
    assert "models:/mnist-mlp@" in result.stdout
    assert f"make -C {ROOT} ui" in result.stdout
    assert not list(tmp_path.iterdir())
    flow_run, tasks = latest_runs()
    assert flow_run.tags  # its process
    assert len(tasks) == 7
    assert not any(task.tags for task in tasks)  # the API is asked for leave before each that has one: up to 2 s


def latest_runs() -> tuple[FlowRun, list[TaskRun]]:
    """Give Prefect's latest flow run, with its tasks."""
    with get_client(sync_client=True) as prefect:
        (flow_run,) = prefect.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        return flow_run, prefect.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])))


@pytest.fixture
def long_run(prefect_api: str, source: DataSource, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The command in its second epoch of many, with an API of its own over the database of the session's."""
    process = subprocess.Popen(
        [*COMMAND, "--epochs", "10000", "--data-dir", str(source.data_dir)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in background
    )
    assert process.stderr
    for line in process.stderr:
        if "Epoch: 2/" in line:
            break
    yield process
    process.kill()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_both_runs_alike_and_leaves_no_process(
    long_run: "subprocess.Popen[str]", signum: signal.Signals, code: int
) -> None:
    servers = children(long_run.pid)
    assert servers

    os.killpg(long_run.pid, signum)  # as a terminal does
    _, rest = long_run.communicate(timeout=60)  # the promise is 5: tests/faults counts how often it is kept
    assert long_run.returncode == code
    assert "Traceback" not in rest

    mlflow = MlflowClient()
    (latest, *_) = mlflow.search_runs([mlflow.get_experiment_by_name("mnist").experiment_id])  # type: ignore[union-attr]
    assert latest.info.status == "KILLED"
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(latest.data.tags["prefect.flow_run_id"])  # type: ignore[arg-type]
    assert flow_run.state_name == "Crashed"
    assert not [pid for pid in servers if Path(f"/proc/{pid}").exists()]
