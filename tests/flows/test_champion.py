"""The champion's commands: its history, rollback, and promotion by hand."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from cyclopts import CycloptsError

from flows import champion, cli
from mnist_pipeline.config import ROOT
from mnist_pipeline.data.source import model_name
from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.registry import Registry

ACCURACIES = {1: 0.9711, 2: 0.9822}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registered model of two versions, both promoted, the second the champion."""
    store.prepare()
    registry = Registry(model_name(f"set-{uuid4().hex}"))
    store.client().create_registered_model(registry.name)
    for number, accuracy in ACCURACIES.items():
        store.client().create_model_version(registry.name, str(tmp_path))
        decision = Decision((Check("floor", True, f"version {number} is good enough"),), {"accuracy": accuracy})
        registry.evaluate_challenger(number, partial(constant, decision), holdout_sha256="e")
    return registry


def constant(decision: Decision, _champion: int | None) -> Decision:
    return decision


@pytest.fixture
def dataset(registry: Registry) -> list[str]:
    return ["--dataset", registry.name.removesuffix("-mlp")]


def test_history_lists_every_decision_with_its_reason(dataset: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    champion.app(["rollback", "--reason", "it fails on sevens", *dataset])
    champion.app(["promote", "2", "--reason", "it does not", *dataset])
    capsys.readouterr()
    champion.app(["history", *dataset])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["time", "(UTC)", "version", "decision", "champion", "holdout", "by", "why", "data"]
    expected = [
        ("promoted", "– → 1", "97.11%"),
        ("promoted", "1 → 2", "98.22%"),
        ("rolled back", "2 → 1", "it fails on sevens"),
        ("promoted by hand", "1 → 2", "it does not"),
    ]
    for row, parts in zip(rows, expected, strict=True):
        assert all(part in row for part in parts)


def test_rollback_makes_the_previous_champion_the_champion_again(
    registry: Registry, dataset: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    champion.app(["rollback", *dataset])
    assert (registry.champion, registry.history()[-1].reasons) == (1, ("rolled back by hand",))
    assert capsys.readouterr().out == "The champion is version 1 again, in place of version 2\n"


def test_promote_makes_any_version_the_champion(
    registry: Registry, dataset: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    champion.app(["promote", "1", "--reason", "a test", *dataset])
    assert (registry.champion, registry.version("previous_champion")) == (1, 2)
    assert capsys.readouterr().out == "The champion is version 1, in place of version 2\n"


def test_the_champion_of_your_own_images_is_named_by_their_folder() -> None:
    with pytest.raises(ValueError, match="my-own-mlp has no previous champion to go back to"):
        champion.app(["rollback", "--dataset", "images/My own"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["promote", "1"], 'Command "promote" parameter --reason requires an argument.'),
        (["promote", "first", "--reason", "a test"], 'Invalid value for VERSION: unable to convert "first" into int.'),
        (["promote", "7", "--reason", "a test"], " has no version 7: its versions are 1, 2"),
        (["promote", "2", "--reason", "a test"], " is the champion already"),
        (["forget"], 'Unknown command "forget". Available commands: history, rollback, promote.'),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    registry: Registry, dataset: list[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises((CycloptsError, ValueError)) as caught:
        champion.app([*arguments, *dataset])
    _, message = cli.explain(caught.value)
    assert complaint in str(message)
    assert (registry.champion, len(registry.history())) == (2, 2)


def test_the_history_of_an_empty_registry_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "flows" / "champion.py"), "history", "--dataset", "nothing-yet"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.endswith("champion.py: the ledger is empty: no version has been promoted yet")


HISTORY = """
import sys
from flows import champion

champion.app(["history", *sys.argv[1:]])
print("imported:", {"torch", "scipy.stats", "prefect"} & sys.modules.keys())
"""


def test_history_is_shown_without_the_heavy_imports(dataset: list[str]) -> None:
    command = [sys.executable, "-c", HISTORY, *dataset]
    result = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert "98.22%" in result.stdout
    assert "imported: set()" in result.stdout
