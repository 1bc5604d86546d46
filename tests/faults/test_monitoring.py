"""Monitoring that is killed, run twice at once, or finds a damaged log or another clock: nothing of the log is lost."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mnist_pipeline.served_log import ServedLog
from tests.answers import answer
from tests.faults.conftest import Project, fails, succeeds

COMMAND = "flows/monitor_flow.py"


def kept(file: Path, *, count: int = 60, ahead: timedelta = timedelta(0)) -> Path:
    with contextlib.closing(ServedLog(file)) as log:
        images = np.random.default_rng(0).integers(0, 255, (count, 28, 28), np.uint8)
        probabilities, time = np.full(10, 0.1, np.float32), datetime.now(UTC) + ahead
        log.append([answer(number, image, probabilities, time=time) for number, image in enumerate(images)])
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


def test_a_damaged_log_is_one_line_and_stays_as_it_is(used: Project, tmp_path: Path) -> None:
    file = kept(tmp_path / "served.db", count=400)
    with file.open("r+b") as damaged:
        damaged.seek(5000)
        damaged.write(bytes(range(256)) * 200)
    before = file.read_bytes()
    assert "is no log of served predictions" in fails(used.start(COMMAND, "--log", str(file)))
    assert file.read_bytes() == before


def test_a_log_that_another_program_keeps_locked_is_read(used: Project, log: Path) -> None:
    with contextlib.closing(sqlite3.connect(log, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        assert "Retrain: " in succeeds(used.start(COMMAND, "--log", str(log)))
        another.execute("ROLLBACK")


def test_a_clock_that_is_set_back_hides_no_answer(used: Project, tmp_path: Path) -> None:
    file = kept(tmp_path / "served.db", ahead=timedelta(days=400))  # as if it had been ahead until now
    output = succeeds(used.start(COMMAND, "--log", str(file)))
    assert "images" in output
    assert "60" in output
