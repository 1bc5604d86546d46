"""One at a time, whatever machine it is on, and whatever becomes of who is at it."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mnist_pipeline import registry as registry_room
from mnist_pipeline import turns
from mnist_pipeline.promotion import Check, Decision
from mnist_pipeline.registry import Registry
from mnist_pipeline.turns import turn, waiting

YES = Decision((Check("floor", True, "good enough"),), {"accuracy": 0.98})

TAKE_TURNS = """
import sys
from pathlib import Path
from mnist_pipeline.turns import turn

page = Path(sys.argv[1])
for _ in range(5):
    with turn("digits-turns"):
        lines = page.read_text()  # what another one wrote meanwhile would be lost
        page.write_text(lines + "a line\\n")
"""

HOLD = """
from mnist_pipeline.turns import turn

with turn("digits-turns"):
    print("mine", flush=True)
    input()
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 1)
    monkeypatch.setattr(turns, "POLL", 0.05)


@pytest.mark.slow
def test_processes_take_turns(empty_store: MlflowClient, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.touch()
    writers = [subprocess.Popen([sys.executable, "-c", TAKE_TURNS, str(page)]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert page.read_text() == "a line\n" * 10
    assert not waiting("digits-turns")


@pytest.mark.slow
def test_who_is_killed_at_its_turn_is_struck_off(empty_store: MlflowClient, impatient: None) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"mine\n"
    holder.kill()
    holder.wait()
    assert list(waiting("digits-turns")) == [1]
    with turn("digits-turns"):
        assert list(waiting("digits-turns")) == [2]


def test_who_shows_that_it_lives_is_waited_for(
    empty_store: MlflowClient, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "BEAT", 0.1)
    deadline = time.monotonic() + 60
    with turn("digits-turns"):
        while (sign := int(waiting("digits-turns")[1])) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert sign >= 2


def test_who_was_taken_for_dead_while_it_waited_is_told(
    empty_store: MlflowClient, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_draw", lambda queue: 7)  # a number that is not there any more
    with pytest.raises(TimeoutError, match="did not reach the tracking store"), turn("digits-turns"):
        raise AssertionError("it has no turn")


def test_a_decision_on_a_champion_that_was_moved_meanwhile_is_made_again(empty_store: MlflowClient) -> None:
    registry = Registry("digits")
    empty_store.create_registered_model("digits")
    first, second, third = (int(empty_store.create_model_version("digits", "x:").version) for _ in range(3))
    registry.settle(first, lambda champion: YES, exam_sha256="e")
    seen: list[int | None] = []

    def judge(champion: int | None) -> Decision:
        if not seen:  # another machine took this process for dead
            empty_store.set_registered_model_alias("digits", "champion", str(second))
        seen.append(champion)
        return YES

    entry = registry.settle(third, judge, exam_sha256="e")
    assert seen == [first, second]
    assert (entry.champion_before, registry.champion) == (second, third)


def test_the_ledger_keeps_its_order_where_a_clock_is_behind(
    empty_store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry("digits")
    empty_store.create_registered_model("digits")
    versions = [int(empty_store.create_model_version("digits", "x:").version) for _ in range(3)]

    class Behind(datetime):
        minutes = 0

        @classmethod
        def now(cls, tz: object = None) -> "Behind":
            cls.minutes += 1
            return cls.fromtimestamp((datetime.now(UTC) - timedelta(minutes=cls.minutes)).timestamp(), UTC)

    monkeypatch.setattr(registry_room, "datetime", Behind)
    for version in versions:
        registry.settle(version, lambda champion: YES, exam_sha256="e")
    assert [entry.version for entry in registry.history()] == versions
