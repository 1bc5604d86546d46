"""The command lines: options, one-line errors, exit codes, and a whole command."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import FlowRunSort

from flows import cli
from mnist_pipeline.config import BEST, FAST, RECIPES, REFERENCE, ROOT, RecipeName
from mnist_pipeline.data.source import DataSource
from tests.servers import children

COMMAND = [sys.executable, str(ROOT / "flows" / "train_flow.py")]


def run(*options: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *options], cwd=cwd, capture_output=True, text=True, timeout=120)


def complaint(command: Callable[..., None], *options: str) -> tuple[int, str]:
    """Return the exit code and the message for options that `command` refuses."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever it is, it is explained
        cli.parse(command, [*options])
    code, message = cli.explain(caught.value)
    assert message
    assert len(message.splitlines()) == 1
    return code, message


@pytest.mark.parametrize(
    ("command", "options", "code", "message"),
    [
        (cli.train, ["--epochs", "0"], 1, "--epochs must be at least 1, not 0"),
        (cli.train, ["--lr", "-1"], 1, "--lr must be a positive number, not -1.0"),
        (cli.train, ["--optimizer", "foo"], 2, 'Invalid value "foo" for --optimizer. Choose from: "sgd",'),
        (cli.train, ["--hidden", "0"], 1, "--hidden must be at least 1 unit a layer, not 0"),
        (cli.train, ["--epochs", "many"], 2, 'Invalid value for --epochs: unable to convert "many" into int.'),
        (cli.train, ["--frobnicate"], 2, "Unknown option: --frobnicate."),
        (cli.train, ["--recipe", "foo"], 2, 'Invalid value "foo" for --recipe. Choose from: "reference", "fast",'),
        (cli.train, ["--mirror", "nowhere"], 1, "--mirror must be a URL"),
        (cli.train, ["--label-smoothing", "2"], 1, "--label-smoothing must be at least 0 and below 1, not 2.0"),
        (cli.retrain, ["--cron", "often"], 1, '--cron cannot be used: Invalid cron string: "often"'),
        (cli.retrain, ["--cron", "0 3 * * *", "--timezone", "Mars"], 1, "--timezone cannot be used: Invalid timezone"),
        (cli.retrain, ["--floor", "97"], 1, "--floor must be between 0 and 1, not 97.0"),
        (cli.sweep, ["--trials", "0"], 1, "--trials must be at least 1, not 0"),
        (cli.sweep, ["--lr", "0.1", "0.01"], 1, "--lr must be the lowest value, then the highest, not 0.1 0.01"),
        (cli.predict, [], 2, "IMAGES requires an argument."),
        (cli.predict, ["nowhere"], 1, "there is no nowhere"),
        (
            cli.predict,
            [str(ROOT), "--out", "p.txt"],
            1,
            "--out must be a name that ends in .parquet or .csv, not p.txt",
        ),
        (cli.predict, [str(ROOT), "--out", "no/p.csv"], 1, "--out must be in an existing folder, not no/p.csv"),
    ],
)
def test_a_bad_option_is_explained_in_one_line(
    command: Callable[..., None], options: list[str], code: int, message: str
) -> None:
    found_code, found = complaint(command, *options)
    assert message in found
    assert found_code == code


def test_a_bad_option_ends_the_command_before_anything_is_written(tmp_path: Path) -> None:
    result = run("--epochs", "0", "--data-dir", str(tmp_path / "data"), cwd=tmp_path)
    (line,) = result.stderr.splitlines()
    assert line.endswith("train_flow.py: --epochs must be at least 1, not 0")
    assert result.returncode == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What `--help` prints, in one line."""
    with pytest.raises(SystemExit) as ended:
        cli.parse(cli.train, ["--help"])
    assert not ended.value.code
    return " ".join(capsys.readouterr().out.split())


def test_help_shows_every_option_with_its_default(shown: str) -> None:
    for option in ("--epochs", "--lr", "--batch-size", "--hidden", "--optimizer", "--dropout", "--seed", "--mirror"):
        assert option in shown
    assert "[default: 0.001]" in shown


@pytest.mark.parametrize("recipe", ["fast", "accurate", "best"])
def test_help_ends_with_the_options_that_make_each_recipe(shown: str, recipe: RecipeName) -> None:
    (options,) = re.findall(rf"--recipe {recipe}: (.*?)(?= --recipe |$)", shown)
    config = cli.parse(cli.train, options.replace(",", "").split())["config"]
    assert replace(config, recipe=recipe) == RECIPES[recipe]


def test_a_recipe_sets_the_options_that_are_not_given() -> None:
    assert cli.parse(cli.train, ["--recipe", "fast"])["config"] == FAST
    options = ["--epochs", "7", "--recipe", "fast", "--no-batch-norm", "--hidden", "32"]
    assert cli.parse(cli.train, options)["config"] == replace(FAST, epochs=7, batch_norm=False, hidden=(32,))
    assert cli.parse(cli.train, [])["config"] == REFERENCE
    assert cli.parse(cli.retrain, ["--recipe", "best", "--hidden"])["config"] == replace(BEST, hidden=())


def test_an_unexpected_error_keeps_its_traceback() -> None:
    assert cli.explain(KeyError("x")) == (1, None)
    assert cli.explain(KeyboardInterrupt()) == (130, "stopped")


def test_the_command_works_from_any_folder_and_leaves_nothing_there(
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
    """Return Prefect's latest flow run, with its tasks."""
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


def test_ctrl_c_ends_both_runs_alike_and_leaves_no_process(long_run: "subprocess.Popen[str]") -> None:
    servers = children(long_run.pid)
    assert servers

    os.killpg(long_run.pid, signal.SIGINT)  # as a terminal does
    _, rest = long_run.communicate(timeout=60)  # the promise is 5: tests/faults counts how often it is kept
    assert long_run.returncode == 130
    assert "Traceback" not in rest

    mlflow = MlflowClient()
    (latest, *_) = mlflow.search_runs([mlflow.get_experiment_by_name("mnist").experiment_id])  # type: ignore[union-attr]
    assert latest.info.status == "KILLED"
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(latest.data.tags["prefect.flow_run_id"])  # type: ignore[arg-type]
    assert flow_run.state_name == "Crashed"
    assert not [pid for pid in servers if Path(f"/proc/{pid}").exists()]
