"""Monitoring that is killed, run twice at once, or finds a damaged log or another clock: nothing of the log is lost."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from flows.monitor_flow import monitor_flow
from flows.train_flow import Trained
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.monitoring.log import ServedLog
from mnist_pipeline.monitoring.options import Watch
from mnist_pipeline.monitoring.verdict import Watched
from mnist_pipeline.tracking.registry import Registry
from tests.answers import answer
from tests.faults.conftest import Project, succeeds

COMMAND = "flows/monitor_flow.py"


def kept(file: Path, *, count: int = 60, version: int = 1, ahead: timedelta = timedelta(0)) -> Path:
    with contextlib.closing(ServedLog(file)) as log:
        images = np.random.default_rng(0).integers(0, 255, (count, 28, 28), np.uint8)
        row, time = np.full(10, 0.1, np.float32), datetime.now(UTC) + ahead
        log.append([answer(number, image, row, version=version, time=time) for number, image in enumerate(images)])
        for number in range(30):
            log.correct(f"{number:032x}", "7")
        log.review({f"{number:032x}": ("accepted", "7") for number in range(30)})
    return file


@pytest.fixture
def log(used: Project, tmp_path: Path) -> Iterator[Path]:
    file = kept(tmp_path / "served.db")
    before = file.read_bytes()
    yield file
    assert file.read_bytes() == before


def test_a_monitor_that_is_killed_is_closed_by_the_next_which_says_the_same(used: Project, log: Path) -> None:
    killed = used.start(COMMAND, "--log", str(log))
    deadline = time.monotonic() + 120
    while not used.mlflow.get_experiment_by_name("mnist-monitoring") and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    output = succeeds(used.start(COMMAND, "--log", str(log)))
    assert "Retrain: " in output
    experiment = used.mlflow.get_experiment_by_name("mnist-monitoring")
    assert experiment
    runs = used.mlflow.search_runs([experiment.experiment_id])
    assert "RUNNING" not in {run.info.status for run in runs}


def test_two_monitors_at_once_both_come_to_their_verdict(used: Project, log: Path) -> None:
    both = [used.start(COMMAND, "--log", str(log)) for _ in range(2)]
    for each in both:
        assert "Retrain: " in succeeds(each)


@pytest.fixture
def watched(trained: Trained, source: DataSource) -> Callable[[Path], Watched]:
    """Watch a log in this process."""
    return lambda log: monitor_flow(Watch(log=(str(log),)), source=source)  # type: ignore[return-value]  # its state's


def test_a_damaged_log_is_one_line_and_stays_as_it_is(watched: Callable[[Path], Watched], tmp_path: Path) -> None:
    file = kept(tmp_path / "served.db", count=400)
    with file.open("r+b") as damaged:
        damaged.seek(5000)
        damaged.write(bytes(range(256)) * 200)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"^.* is no log of served predictions.*$"):
        watched(file)
    assert file.read_bytes() == before


def test_a_log_that_another_program_keeps_locked_is_read(watched: Callable[[Path], Watched], log: Path) -> None:
    with contextlib.closing(sqlite3.connect(log, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        assert watched(log).verdict == "retrain"
        another.execute("ROLLBACK")


def test_a_clock_that_is_set_back_hides_no_answer(watched: Callable[[Path], Watched], tmp_path: Path) -> None:
    champion = Registry().champion
    assert champion
    ahead = timedelta(days=400)  # as if the clock had been so until now
    file = kept(tmp_path / "served.db", version=champion, ahead=ahead)
    assert watched(file).metrics["images"] == 60
