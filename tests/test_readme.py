"""Every command of the README has options that exist, and its Python code runs."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import champion, cli, feedback
from flows.train_flow import Trained
from mnist_pipeline.config import ROOT
from serving import __main__ as serving

README = (ROOT / "README.md").read_text()
PARSERS: dict[str, Callable[[list[str]], Any]] = {
    "flows/train_flow.py": lambda options: cli.parse(cli.train, options),
    "flows/retrain_flow.py": lambda options: cli.parse(cli.retrain, options),
    "flows/sweep_flow.py": lambda options: cli.parse(cli.sweep, options),
    "flows/monitor_flow.py": lambda options: cli.parse(feedback.monitor, options),
    "flows/inspect_flow.py": lambda options: cli.parse(cli.inspect, options),
    "flows/predict_flow.py": lambda options: cli.parse(cli.predict, options),
    "flows/champion.py": champion.app.parse_args,
    "serving": serving.app.parse_args,
}
OTHERS = ("pytest", "pip", "python3", "mlflow", "curl", "export")  # whose options are not ours


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(script: str) -> list[list[str]]:
    lines = script.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def made(words: list[str]) -> list[str]:
    """Return what `make` would run: it comes last, after what builds the environment."""
    make = ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), *words[1:]]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "ARGS"))}
    return commands(subprocess.run(make, capture_output=True, check=True, text=True, env=environment).stdout)[-1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what the README supposes to be there."""
    raw = tmp_path / "MNIST_data" / "MNIST" / "raw"
    for each in (raw, tmp_path / "photos", tmp_path / "pets"):
        each.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [words for block in blocks("console") for words in commands(block)], ids=shlex.join)
def test_a_command_of_the_readme_has_options_that_exist(words: list[str], folder: Path) -> None:
    program, *rest = made(words) if words[0] == "make" else words
    if Path(program).name == "python":
        script, *options = rest[1:] if rest[0] == "-m" else rest
        if script in PARSERS:
            assert PARSERS[script](options)
        else:
            assert (ROOT / f"{script.replace('.', '/')}.py").is_file()
    else:
        assert Path(program).name in OTHERS


@pytest.mark.parametrize("code", blocks("python"))
def test_the_code_in_the_readme_runs(code: str, trained: Trained, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)  # where the session's mlflow.db is
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["probabilities"].shape == (2, 10)
    assert names["state_dict"]


def test_an_evenings_reading_is_as_long_as_it_is_said_to_be() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    section = page.partition("## An evening's reading\n")[2].partition("\n## ")[0]
    files = re.findall(r"`(\S+\.py)`", section)
    lines = sum(len((ROOT / file).read_text().splitlines()) for file in files)
    for text in (README, section):
        assert f"some {round(lines, -2):,} lines" in text
