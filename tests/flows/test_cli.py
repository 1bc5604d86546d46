"""The command lines: options, one-line errors, exit codes, and a whole command."""

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import FlowRunSort

from flows import cli, feedback
from mnist_pipeline.config import BEST, FAST, RECIPES, REFERENCE, ROOT, RecipeName
from mnist_pipeline.data.source import DataSource

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


def test_a_name_in_an_error_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.report_error(ValueError("there is no \x1b]0;owned\x07\n")) == 1
    assert capsys.readouterr().err.endswith("there is no \\x1b]0;owned\\x07\\n\n")


def test_an_error_has_its_traceback_in_pythons_development_mode(tmp_path: Path) -> None:
    command = [*COMMAND, "--epochs", "0"]
    plain, development = (
        subprocess.run([sys.executable, *options, *command[1:]], cwd=tmp_path, capture_output=True, text=True).stderr
        for options in ([], ["-X", "dev"])
    )
    assert plain.endswith("train_flow.py: --epochs must be at least 1, not 0\n")
    assert len(plain.splitlines()) == 1
    assert "Traceback" in development
    assert "epochs must be at least 1, not 0" in development


@pytest.mark.parametrize(
    ("files", "where"), [((), ""), (("model.onnx",), ": model.onnx"), (("a.tmp", None, "model.onnx"), ": model.onnx")]
)
def test_a_full_disk_is_told_with_the_file_that_has_no_room_if_it_is_known(files: tuple[str, ...], where: str) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", *files)
    assert cli.explain(error) == (1, f"No space left on device{where}; make room, and run the command again")


@pytest.mark.parametrize(
    ("file", "own"),
    [
        (ROOT / ".prefect" / "prefect.db", ", or name a folder of your own in MNIST_PIPELINE_HOME"),
        (Path("/elsewhere/predictions.csv"), ""),
    ],
)
def test_what_belongs_to_another_user_is_told_with_a_way_out(file: Path, own: str) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", str(file))
    assert cli.explain(error) == (1, f"Permission denied: {file}; give this user access to it{own}")


def test_libraries_that_do_not_fit_into_memory_are_told_in_one_line() -> None:
    error = ImportError("libtorch_cuda.so: failed to map segment from shared object")
    assert cli.explain(error)[1] == (
        "there is not enough memory: smaller --hidden layers or a smaller --batch-size need less"
    )


@pytest.mark.parametrize(
    ("command", "options", "code", "message"),
    [
        (cli.train, ["--epochs", "0"], 1, "--epochs must be at least 1, not 0"),
        (cli.train, ["--lr", "-1"], 1, "--lr must be a positive number, not -1.0"),
        (cli.train, ["--optimizer", "foo"], 2, 'Invalid value "foo" for --optimizer. Choose from: "sgd",'),
        (cli.train, ["--hidden", "0"], 1, "--hidden must be at least 1 unit a layer, not 0"),
        (cli.train, ["--epochs", "many"], 2, "--epochs must be a whole number, not many"),
        (cli.train, ["--lr", "high"], 2, "--lr must be a number, not high"),
        (cli.train, ["--hidden", "10", "x"], 2, "--hidden must be a whole number, not x"),
        (cli.train, ["--lr"], 2, "--lr needs 1 value, not 0"),
        (cli.train, ["--threads", "100000"], 1, "--threads must be between 0 and 256, not 100000"),
        (cli.train, ["history"], 2, "unexpected argument history: options begin with --, and --help lists them"),
        (cli.train, ["--frobnicate"], 2, "Unknown option: --frobnicate."),
        (cli.train, ["--recipe", "foo"], 2, 'Invalid value "foo" for --recipe. Choose from: "reference", "fast",'),
        (cli.train, ["--seeds", "0"], 1, "--seeds must be at least 1, not 0"),
        (
            cli.train,
            ["--seed", str(2**63 - 1), "--seeds", "2"],
            1,
            "--seed must be below 2**63, as all 2 seeds must be",
        ),
        (cli.train, ["--patience", "5"], 1, "--patience needs a validation part to watch"),
        (
            cli.inspect,
            ["--patience", "5", "--validation", "0.1"],
            1,
            "--patience must be 0, as a fold has no validation",
        ),
        (cli.train, ["--mirror", "nowhere"], 1, "--mirror must be a URL"),
        (cli.train, ["--label-smoothing", "2"], 1, "--label-smoothing must be at least 0 and below 1, not 2.0"),
        (cli.retrain, ["--cron", "often"], 1, '--cron cannot be used: Invalid cron string: "often"'),
        (cli.retrain, ["--cron", ""], 1, '--cron cannot be used: Invalid cron string: ""'),
        (cli.retrain, ["--cron", "0 0 3 * * *"], 1, "--cron must be minute, hour, day, month and weekday, without"),
        (cli.retrain, ["--cron", "0 0 30 2 *"], 1, "--cron must be times that come, which 0 0 30 2 * does not"),
        (cli.retrain, ["--cron", "0 3 * * *", "--timezone", "Mars"], 1, "--timezone cannot be used: Invalid timezone"),
        (cli.retrain, ["--timezone", "Mars"], 1, "--timezone must be left out without cron, not Mars"),
        (feedback.monitor, ["--timezone", "Mars"], 1, "--timezone must be left out without cron, not Mars"),
        (cli.retrain, ["--floor", "97"], 1, "--floor must be between 0 and 1, not 97.0"),
        (cli.sweep, ["--trials", "0"], 1, "--trials must be at least 1, not 0"),
        (cli.sweep, ["--lr", "0.1", "0.01"], 1, "--lr must be the lowest value, then the highest, not 0.1 0.01"),
        (cli.sweep, ["--lr", "0.1"], 2, "--lr needs 2 values, not 1"),
        (cli.sweep, ["--workers", "-3"], 1, "--workers must be between 0 and 256, not -3"),
        (cli.inspect, ["--folds", "1"], 1, "--folds must be between 2 and 100, not 1"),
        (cli.inspect, ["--out", "issues.txt"], 1, "--out must be a name that ends in .csv, not issues.txt"),
        (cli.inspect, ["--relabel", "nowhere.csv"], 1, "--relabel must be an existing file, not nowhere.csv"),
        (cli.predict, [], 2, "IMAGES is required: Folder of images, or an IDX"),
        (cli.predict, ["nowhere"], 1, "there is no nowhere"),
        (
            cli.predict,
            [str(ROOT), "--out", "p.txt"],
            1,
            "--out must be a name that ends in .parquet or .csv, not p.txt",
        ),
        (cli.predict, [str(ROOT), "--min-confidence", "90"], 1, "--min-confidence must be between 0 and 1, not 90.0"),
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


def test_an_inspection_trains_with_the_fast_recipe_unless_another_is_named() -> None:
    assert cli.parse(cli.inspect, [])["config"] == FAST
    assert cli.parse(cli.inspect, ["--epochs", "30"])["config"] == replace(FAST, epochs=30)
    assert cli.parse(cli.inspect, ["--recipe", "reference"])["config"] == REFERENCE


def test_a_table_that_may_have_been_edited_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "issues.csv").touch()
    _, found = complaint(cli.inspect, "--out", str(tmp_path / "issues.csv"))
    assert found.startswith("--out must be a new file, as someone may have edited it, not ")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError("CUDA out of memory.")],
)
def test_memory_that_runs_out_is_one_line(error: Exception) -> None:
    assert cli.explain(error) == (
        1,
        "there is not enough memory: smaller --hidden layers or a smaller --batch-size need less",
    )


def test_an_unexpected_error_keeps_its_traceback() -> None:
    assert cli.explain(RuntimeError("x")) == (1, None)
    assert cli.explain(KeyError("x")) == (1, None)
    assert cli.explain(KeyboardInterrupt()) == (130, "stopped")


def test_the_command_works_from_any_folder_and_leaves_nothing_there(
    prefect_api: str, source: DataSource, tmp_path: Path
) -> None:
    options = ["--epochs", "1", "--hidden", "30", "20", "--data-dir", str(source.data_dir)]
    result = run(*options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"Epoch: 1/1, Loss: 0\.\d{3} \(mean 0\.\d{3}\), test 9\d\.\d\d %", result.stderr)
    assert "/12,000 (9" in result.stdout
    assert "models:/mnist-mlp@" in result.stdout
    assert f"make -C {ROOT} ui" in result.stdout
    assert not list(tmp_path.iterdir())
    flow_run, tasks = latest_runs()
    assert flow_run.tags  # its process
    assert len(tasks) == 8
    assert not any(task.tags for task in tasks)  # for each task with one, Prefect asks its API for a slot: up to 2 s


def latest_runs() -> tuple[FlowRun, list[TaskRun]]:
    """Return Prefect's latest flow run, with its tasks."""
    with get_client(sync_client=True) as prefect:
        ended = FlowRunFilter.model_validate({"state": {"type": {"any_": ["COMPLETED"]}}})  # and not due later
        (flow_run,) = prefect.read_flow_runs(flow_run_filter=ended, sort=FlowRunSort.START_TIME_DESC, limit=1)
        return flow_run, prefect.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])))
