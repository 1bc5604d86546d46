"""What is killed is gone on with by the next command, or closed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from prefect.client.orchestration import get_client

from mnist_pipeline import store, tracking
from mnist_pipeline.config import ROOT, DataSource, TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.model import MLP
from mnist_pipeline.training import fit

CONFIG = TrainConfig(epochs=5, hidden=(32,), batch_size=512, dropout=0.1)
COMMAND = [sys.executable, str(ROOT / "flows" / "train_flow.py")]
OPTIONS = ["--epochs", "5", "--hidden", "32", "--batch-size", "512", "--dropout", "0.1"]

Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def command(prefect_api: str, source: DataSource, empty_store: MlflowClient) -> Iterator[Command]:
    started = []

    def start(*options: str) -> "subprocess.Popen[str]":
        words = [*COMMAND, *options, "--data-dir", str(source.data_dir)]
        started.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def kill_after(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if words in line:
            break
    process.kill()
    process.wait()


def finish(process: "subprocess.Popen[str]") -> str:
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    return log


def prefect_state(run_tags: dict[str, str]) -> str | None:
    with get_client(sync_client=True) as prefect:
        return prefect.read_flow_run(run_tags["prefect.flow_run_id"]).state_name  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    command: Command, empty_store: MlflowClient, splits: Splits
) -> None:
    kill_after(command(*OPTIONS), "Epoch: 2/5")
    (killed,) = empty_store.search_runs(["1"])
    assert (killed.info.status, prefect_state(killed.data.tags)) == ("RUNNING", "Running")  # as SIGKILL leaves them
    log = finish(command(*OPTIONS))

    assert f"Going on with the MLflow run {killed.info.run_id}" in log
    (run,) = empty_store.search_runs(["1"])
    assert (run.info.run_id, run.info.status) == (killed.info.run_id, "FINISHED")
    assert prefect_state(run.data.tags) == "Completed"
    assert prefect_state(killed.data.tags) == "Crashed"
    for metric in ("train_loss", "last_batch_loss"):
        steps = [value.step for value in empty_store.get_metric_history(run.info.run_id, metric)]
        assert steps == [1, 2, 3, 4, 5]

    whole = MLP.from_config(CONFIG, inputs=784, outputs=10)
    list(fit(whole, splits.train.images, splits.train.labels, CONFIG))
    weights = torch.load(download_artifacts("models:/mnist-mlp@champion/extra_files/state_dict.pt"), weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in whole.state_dict().items())
    assert not list(store.unfinished_folder().iterdir())


@pytest.mark.slow
def test_a_killed_run_of_another_config_is_closed_and_kept_for_later(
    command: Command, empty_store: MlflowClient
) -> None:
    kill_after(command(*OPTIONS), "Epoch: 1/5")
    finish(command("--epochs", "1", "--hidden"))
    finished, killed = empty_store.search_runs(["1"])
    assert (finished.info.status, killed.info.status) == ("FINISHED", "KILLED")
    assert prefect_state(killed.data.tags) == "Crashed"

    log = finish(command(*OPTIONS, "--fresh"))
    assert "Going on" not in log
    assert len(empty_store.search_runs(["1"])) == 3
    assert not list(store.unfinished_folder().iterdir())


def test_one_that_was_interrupted_by_a_signal_goes_on_as_well(command: Command, empty_store: MlflowClient) -> None:
    process = command("--epochs", "2000", "--hidden", "--batch-size", "24000")
    assert process.stderr
    for line in process.stderr:
        if "Epoch: 3/" in line:
            break
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=10)
    (run,) = empty_store.search_runs(["1"])
    assert (run.info.status, prefect_state(run.data.tags)) == ("KILLED", "Crashed")
    again = command("--epochs", "2000", "--hidden", "--batch-size", "24000")
    assert again.stderr
    assert any(f"Going on with the MLflow run {run.info.run_id}" in line for line in again.stderr)


def test_who_is_alive_keeps_its_run(empty_store: MlflowClient, tmp_path: Path) -> None:
    def start(fingerprint: str = "a" * 64) -> str:
        with tracking.start_run(params={}, tags={}, fingerprint=fingerprint) as run:
            assert run.checkpoint
            run.checkpoint.write_bytes(b"")
            with tracking.start_run(params={}, tags={}, fingerprint=fingerprint) as other:
                assert other.id != run.id
                raise ArithmeticError
        return run.id

    with pytest.raises(ArithmeticError):
        start()
    first, second = empty_store.search_runs(["1"])
    assert {first.info.status, second.info.status} == {"FAILED"}
    with tracking.start_run(params={}, tags={}, fingerprint="a" * 64) as again:
        assert again.id in {first.info.run_id, second.info.run_id}  # they are dead, so it is taken over
    assert empty_store.get_run(again.id).info.status == "FINISHED"
