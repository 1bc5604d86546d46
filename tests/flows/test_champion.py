"""The champion's commands: its history, rollback, and promotion by hand."""

import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from cyclopts import CycloptsError

from flows import champion, cli
from flows.train_flow import Trained, train_flow
from mnist_pipeline.config import ROOT, TrainConfig
from mnist_pipeline.data.source import DataSource, model_name
from mnist_pipeline.interval import interval_text
from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.registry import Registry

ACCURACIES = {1: 0.9711, 2: 0.9822}


@pytest.fixture
def registry(model_files: str) -> Registry:
    """A registered model of two versions, both promoted, the second the champion."""
    store.prepare()
    registry = Registry(model_name(f"set-{uuid4().hex}"))
    store.client().create_registered_model(registry.name)
    for number, accuracy in ACCURACIES.items():
        store.client().create_model_version(registry.name, model_files)
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
        ("promoted", "– → 1", "97.11 %"),
        ("promoted", "1 → 2", "98.22 %"),
        ("rolled back", "2 → 1", "it fails on sevens"),
        ("promoted by hand", "1 → 2", "it does not"),
    ]
    for row, parts in zip(rows, expected, strict=True):
        assert all(part in row for part in parts)


def test_list_shows_every_version_though_its_run_and_its_files_are_gone(
    registry: Registry, dataset: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.client().create_model_version(registry.name, str(tmp_path), run_id="0" * 32)  # not decided on
    store.client().set_model_version_tag(registry.name, "3", "exam_accuracy", "0.9799")  # as version 0.1 did
    for tag in ("test_accuracy", "holdout_accuracy"):
        store.client().set_model_version_tag(registry.name, "2", tag, "nan")  # as nobody should
    champion.app(["list", *dataset])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["version", "decision"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert "2 champion" in rows[1]
    assert "promoted" in rows[1]
    assert "97.99 %" in rows[2]


def test_compare_says_what_is_missing(
    registry: Registry, dataset: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    champion.app(["compare", "1", "2", "--out", str(out), *dataset])
    printed = capsys.readouterr().out
    assert "version 1 previous champion" in printed
    assert "The run of version 1 is gone: its config is not known" in printed
    assert f"Not compared on images: {registry.uri(1)} cannot be loaded" in printed
    assert not out.exists()


def test_compare_shows_what_differs_and_draws_the_images(
    trained: Trained, source: DataSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = train_flow(TrainConfig(epochs=1, hidden=(), batch_size=512, seed=5), source)
    out, versions = tmp_path / "sheet.png", [str(each.model.number) for each in (trained, other)]
    champion.app(["compare", *versions, "--out", str(out)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["hidden", "[100,", "100]", "[]"] in lines
    assert [line[-1] for line in lines if line[:1] == ["size"]] == ["kB"]
    assert ["On", "the", "holdout", "of", "10,000", "images:"] in lines
    accuracies = [interval_text(each.holdout.correct, 10_000).split() for each in (trained, other)]
    assert ["accuracy", *accuracies[0], *accuracies[1]] in lines
    assert out.read_bytes().startswith(b"\x89PNG")


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


def test_the_command_that_is_advised_to_promote_a_version_does_so(registry: Registry) -> None:
    _python, _script, *arguments = shlex.split(registry.promote_command(1))
    champion.app(arguments)
    assert registry.champion == 1


def test_an_export_is_compared_on_the_models_own_dataset_or_on_one_that_is_named(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, photos = ["--model", trained.model.uri], tmp_path / "photos"
    champion.app(["export", "--to", str(tmp_path / "own"), *model])
    assert "On the holdout: " in capsys.readouterr().out
    with pytest.raises(ValueError, match="dataset must be a name or an existing folder"):
        champion.app(["export", "--to", str(tmp_path / "other"), *model, "--dataset", str(photos)])
    photos.mkdir()
    champion.app(["export", "--to", str(tmp_path / "other"), *model, "--dataset", str(photos)])
    assert f"there is no holdout: {photos} " in capsys.readouterr().out


def test_a_reason_cannot_steer_the_terminal(
    registry: Registry, dataset: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    champion.app(["promote", "1", "--reason", "a\n\x1b[31m", *dataset])
    capsys.readouterr()
    champion.app(["history", *dataset])
    assert "a\\n\\x1b[31m" in capsys.readouterr().out


def test_a_model_that_does_not_exist_is_said_not_to_by_every_command(registry: Registry) -> None:
    for command in (["history"], ["list"], ["rollback"], ["promote", "1", "--reason", "a test"]):
        with pytest.raises(ValueError, match=f"there is no model my-own-mlp in .*: the models are .*{registry.name}"):
            champion.app([*command, "--dataset", "images/My own"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["promote", "1"], "--reason is required: Why it is done, for the ledger."),
        (["promote", "1", "--reason"], "--reason needs 1 value, not 0"),
        (["promote", "first", "--reason", "a test"], "VERSION must be a whole number, not first"),
        (["histroy"], 'Unknown command "histroy". Did you mean "history"?'),
        (["promote", "7", "--reason", "a test"], " has no version 7: its versions are 1, 2"),
        (["promote", "2", "--reason", "a test"], " is the champion already"),
        (["promote", "1", "--reason", "a" * 110_000], "--reason must be at most 1,000 letters long, not 110,000"),
        (["promote", "1", "--reason", "sch\udcf6n"], "--reason must be in UTF-8, not sch\\udcf6n"),
        (["rollback", "--reason", "a" * 1001], "--reason must be at most 1,000 letters long, not 1,001"),
        (
            ["forget"],
            'Unknown command "forget". Available commands: history, list, compare, rollback, promote, prune, import, ',
        ),
        (["compare", "1", "7"], " has no version 7: its versions are 1, 2"),
        (["compare", "1", "2", "--out", "sheet.pdf"], "--out must be a name that ends in .png, in an existing folder"),
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


def test_the_history_of_a_model_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "flows" / "champion.py"), "history", "--dataset", "nothing-yet"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "champion.py: there is no model nothing-yet-mlp in sqlite:///" in line


HISTORY = """
import sys
from flows import champion

champion.app(["history", *sys.argv[1:]])
champion.app(["list", *sys.argv[1:]])
print("imported:", {"torch", "scipy.stats", "sklearn", "prefect"} & sys.modules.keys())
"""


def test_history_and_list_are_shown_without_the_heavy_imports(dataset: list[str]) -> None:
    command = [sys.executable, "-c", HISTORY, *dataset]
    result = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert "98.22 %" in result.stdout
    assert "imported: set()" in result.stdout
