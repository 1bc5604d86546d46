"""The server that is killed, stopped under load, or out of disk: what it answered is kept, and no request is lost."""

import contextlib
import http.client
import json
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from mnist_pipeline.monitoring.log import ServedLog
from tests.faults.conftest import Process, Project
from tests.servers import answers, eventually, free_port

BODY = json.dumps(np.eye(28, dtype=int).tolist())
RATE = 50  # requests a second


class Load:
    """Sends requests at a steady rate, on connections of its own and on one that is kept, until it is stopped."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered: dict[str, float] = {}  # id → when
        self.lost: list[str] = []
        self.refused = 0  # connections that were not taken: the request goes elsewhere
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(kept,)) for kept in (False, True)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kept: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self._stopped.wait(2 / RATE):
            try:
                connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = json.loads(response.read())
                if response.status == 200:
                    self.answered[answer["predictions"][0].get("id", "")] = time.monotonic()
                else:
                    self.lost.append(str(answer))
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
            if not kept or connection.sock is None:
                connection.close()


def serve(project: Project, *options: str, **environment: str) -> tuple[Process, int]:
    port = free_port()
    process = project.start("-m", "serving", "--port", str(port), "--log", *options, **environment)
    eventually(lambda: answers(f"http://127.0.0.1:{port}/ready") or process.poll() is not None, within=120)
    assert process.poll() is None
    return process, port


def kept(file: Path) -> set[str]:
    return {each.id for each in ServedLog(file).since()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_its_end_under_load_loses_no_request_and_no_answer(number: signal.Signals, used: Project) -> None:
    process, port = serve(used, "--drain", "3")
    with Load(port) as load:
        time.sleep(3)
        process.send_signal(number)
        time.sleep(0.5)
        assert not answers(f"http://127.0.0.1:{port}/ready")
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "Traceback" not in output
    assert not load.lost
    assert load.refused  # the load outlasted the server
    assert len(load.answered) > 2 * RATE / 2
    assert load.answered.keys() <= kept(used.root / "served.db")


def test_sigkill_under_load_loses_at_most_the_last_second(used: Project) -> None:
    process, port = serve(used)
    with Load(port) as load:
        time.sleep(3)
        killed = time.monotonic()
        process.kill()
        process.wait()
    due = {answer for answer, when in load.answered.items() if when < killed - 1}
    assert due
    assert due <= kept(used.root / "served.db")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_stops_no_request_and_what_waits_is_kept_once_there_is_room(
    used: Project, small_disk: Path
) -> None:
    link = used.root / "served.db"
    for each in used.root.glob("served.db*"):
        each.unlink()
    process, port = serve(used, MNIST_PIPELINE_HOME=str(small_disk), MLFLOW_TRACKING_URI=f"sqlite:///{used.database}")
    filler = small_disk / "filler"
    with Load(port) as load:
        time.sleep(1)
        with contextlib.suppress(OSError):
            filler.write_bytes(bytes(2**20))
        time.sleep(8)
        assert not load.lost
        filler.unlink()
        time.sleep(2)
    process.terminate()
    output, _ = process.communicate(timeout=20)
    assert not link.exists()
    assert "cannot be written" in output
    assert "is written again" in output
    assert not load.lost
    with contextlib.closing(sqlite3.connect(small_disk / "served.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert load.answered.keys() <= kept(small_disk / "served.db")


def test_a_database_that_is_put_back_is_read_and_one_that_is_gone_is_not_made_anew(used: Project) -> None:
    process, port = serve(used)
    copy, away = used.root / "copy.db", used.root / "away.db"

    def health() -> dict[str, object]:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return dict(json.loads(answer.read()))

    shutil.copy(used.database, copy)
    with contextlib.closing(sqlite3.connect(copy)) as database, database:
        database.execute("DELETE FROM registered_model_aliases")
    used.database.rename(away)
    try:
        eventually(lambda: "is gone: put it back" in str(health()["last_error"]))
        assert not used.database.exists()
        copy.rename(used.database)
        eventually(lambda: "has no champion" in str(health()["last_error"]))
    finally:
        away.replace(used.database)
    eventually(lambda: health()["last_error"] is None)
    process.terminate()
    process.communicate(timeout=20)


def test_a_log_that_is_locked_for_long_delays_no_request(used: Project) -> None:
    process, port = serve(used)
    with contextlib.closing(sqlite3.connect(used.root / "served.db", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        with Load(port) as load:
            time.sleep(8)
        another.execute("ROLLBACK")
    process.terminate()
    process.communicate(timeout=20)
    assert not load.lost
    assert len(load.answered) > 2 * RATE
    assert load.answered.keys() <= kept(used.root / "served.db")
