"""The log's writer loses nothing, whatever becomes of its file, and keeps no request waiting."""

import contextlib
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from mnist_pipeline.monitoring.log import ServedLog
from serving import log as writer
from serving.log import LogWriter
from tests.servers import eventually
from tests.serving.test_log import numbers_in, served


def test_the_file_shrinks_at_once_when_less_is_to_be_kept(tmp_path: Path) -> None:
    log = ServedLog(tmp_path / "served.db")
    log.append([served(number) for number in range(10_000)])
    log.close()
    kept = LogWriter(log.file, keep=100)
    kept.start()
    kept.close()
    assert log.file.stat().st_size < 2**19
    assert numbers_in(log.file) == [*range(9_900, 10_000)]


@pytest.mark.parametrize("how", ["deleted", "moved", "emptied", "emptied and read"])
def test_a_log_that_is_taken_away_while_it_is_written_is_begun_anew(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_pipeline.monitoring.log.SETTLE", 1)
    file, moved = tmp_path / "served.db", tmp_path / "old.db"
    kept = LogWriter(file)
    kept.append([served(0)])
    kept.start()
    eventually(lambda: numbers_in(file))
    match how:
        case "deleted":
            file.unlink()
        case "moved":
            file.rename(moved)
        case _:
            file.write_bytes(b"")
    if how == "emptied and read":
        with contextlib.suppress(sqlite3.Error):
            numbers_in(file)
    for number in (1, 2):
        kept.append([served(number)])
        eventually(lambda: not kept.backlog)
    kept.close()
    assert numbers_in(file) == [1, 2]
    if how == "moved":
        assert numbers_in(moved) == [0]


@pytest.mark.parametrize("how", ["cp", "slow cp", "mv", "another after the log was moved"])
def test_writing_goes_on_in_a_copy_that_takes_the_place_of_the_log(how: str, tmp_path: Path) -> None:
    file, copy = tmp_path / "served.db", tmp_path / "copy.db"
    kept = LogWriter(file)
    kept.append([served(number) for number in range(500)])
    kept.start()
    eventually(lambda: numbers_in(file))
    with contextlib.closing(ServedLog(file)) as log:
        log.copy(copy)
    kept.append([served(number) for number in range(500, 1500)])
    eventually(lambda: 1499 in numbers_in(file))
    match how:
        case "cp":
            file.write_bytes(copy.read_bytes())  # it stays the same file
        case "slow cp":
            content = copy.read_bytes()
            with file.open("wb", buffering=0) as slow:
                kept.append([served(1499)])
                time.sleep(1)
                slow.write(content[:8192])
                time.sleep(1)
                slow.write(content[8192:])
        case "mv":
            copy.rename(file)
        case _:
            file.rename(tmp_path / "old.db")
            with contextlib.closing(sqlite3.connect(copy)) as pruned:
                pruned.execute("DELETE FROM predictions WHERE number <= 100")
                pruned.commit()
                pruned.execute("VACUUM INTO ?", [str(file)])
    kept.append([served(1500)])
    eventually(lambda: not kept.backlog)
    kept.correct(served(1500).id, "3").result(timeout=30)
    kept.close()
    first, waited = 100 if "another" in how else 0, [1499] if how == "slow cp" else []
    assert numbers_in(file) == [*range(first, 500), *waited, 1500]
    assert [*tmp_path.glob("*damaged*"), *tmp_path.glob("*.db-*")] == []


def test_what_was_wrong_with_the_log_at_the_start_is_said_once_the_server_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(writer.logger, "warning", said.append)
    (tmp_path / "served.db").mkdir()
    kept = LogWriter(tmp_path / "served.db")
    assert not said
    kept.start()
    assert [line for line in said if "cannot be written (unable to open database file)" in line]
    (tmp_path / "served.db").rmdir()
    kept.append([served(0)])
    eventually(lambda: not kept.backlog)
    kept.close()


def test_what_was_answered_and_corrected_is_in_the_file_alone(tmp_path: Path) -> None:
    kept = LogWriter(tmp_path / "served.db")
    kept.append([served(0)])
    kept.start()
    eventually(lambda: numbers_in(tmp_path / "served.db"))
    kept.correct(served(0).id, "3").result(timeout=30)
    shutil.copy(tmp_path / "served.db", tmp_path / "copy.db")
    kept.close()
    with contextlib.closing(ServedLog(tmp_path / "copy.db")) as log:
        assert [each.correct for each in log.corrections()] == ["3"]


def test_feedback_is_refused_together_while_another_program_keeps_the_log_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_pipeline.monitoring.log.BUSY_TIMEOUT", 1)
    kept = LogWriter(tmp_path / "served.db")
    kept.append([served(0)])
    kept.start()
    eventually(lambda: not kept.backlog)
    with contextlib.closing(sqlite3.connect(tmp_path / "served.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = [kept.correct(served(0).id, "3") for _ in range(20)]
        before = time.monotonic()
        for each in refused:
            with pytest.raises(OSError, match="locked"):
                each.result(timeout=30)
        assert time.monotonic() - before < 10  # two waits at most, rather than twenty
    kept.correct(served(0).id, "3").result(timeout=30)
    kept.close()


def test_a_log_that_cannot_be_written_waits_drops_what_is_too_much_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_BACKLOG", 5)
    said: list[str] = []
    monkeypatch.setattr(writer.logger, "warning", said.append)
    folder = tmp_path / "later"
    log = LogWriter(folder / "served.db")  # the folder is not there
    log.start()
    assert [log.append([served(number)]) for number in range(7)] == [True] * 5 + [False] * 2
    with pytest.raises(OSError, match="cannot be written"):
        log.correct(served(0).id, "3").result(timeout=30)
    assert (log.backlog, log.dropped) == (5, 2)
    folder.mkdir()
    eventually(lambda: not log.backlog)
    log.append([served(9)])
    log.close()
    assert [int(each.id, 16) for each in ServedLog(folder / "served.db").since()] == [0, 1, 2, 3, 4, 9]
    assert [line[: line.index(" ", 8)] for line in said] == [f"The log {folder}/served.db", "The log is"]
