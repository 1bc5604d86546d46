"""A copy of the project takes another name in one commit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_pipeline.config import ROOT


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def start(copy: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "tools/start.py", *names], cwd=copy, capture_output=True, text=True)


def copy_project(folder: Path) -> Path:
    """Copy what git knows, uncommitted changes included, into a repository of its own."""
    copy = folder / "copy"
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    git(copy, "init", "--quiet")
    for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        git(copy, "config", key, value)
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message", "A copy")
    return copy


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = copy_project(tmp_path_factory.mktemp("start"))
    result = start(copy, "leaf-reader-of-the-long-name", "leaves")
    assert (result.returncode, result.stderr) == (0, "")
    return copy


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "NAME must be lower-case letters, digits and dashes, such as leaf-reader"),
        (["Leaf Reader"], "NAME must be lower-case"),
        (["serving"], "and no folder here: 'serving'"),
        (["json"], "NAME must not be that of a Python module"),
        (["mnist-pipeline"], "NAME must not be"),
        (["torch"], "NAME must not be that of a Python module"),
        (["class"], "NAME must not be that of a Python module"),
        (["corrections"], "NAME must not be what .gitignore leaves out: 'corrections'"),
        (["leaf-reader", "mnist-mlp"], "MODEL must be another than this project's: 'mnist-mlp'"),
        (["leaf-reader", "é"], "MODEL must be letters"),
        (["leaf-reader", "a/b"], "MODEL must be letters, digits, . _ and -, such as leaves: 'a/b'"),
    ],
)
def test_a_bad_name_is_refused_in_one_line(copy: Path, names: list[str], message: str) -> None:
    result = start(copy, *names)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not git(copy, "status", "--porcelain")


def test_changes_that_are_not_committed_are_refused(copy: Path) -> None:
    (copy / "notes").touch()
    assert start(copy, "leaf-reader").stderr == "Commit or stash what was changed first: notes\n"
    (copy / "notes").unlink()


def test_a_commit_that_git_refuses_renames_nothing_and_is_explained(copy: Path) -> None:
    hook = copy / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\necho 'not on a Sunday' >&2\nexit 1\n")
    hook.chmod(0o755)
    (copy / "mnist_pipeline" / "__pycache__").mkdir(exist_ok=True)
    (copy / "mnist_pipeline" / "__pycache__" / "config.pyc").touch()
    result = start(copy, "leaf-reader")
    hook.unlink()
    assert (result.returncode, result.stderr) == (1, "Nothing was renamed: git commit failed: not on a Sunday\n\n")
    assert not git(copy, "status", "--porcelain")
    assert not (copy / "leaf_reader").exists()


def test_the_new_name_is_one_commit_that_leaves_nothing_of_the_old_one(started: Path) -> None:
    assert git(started, "log", "--format=%s").splitlines() == [
        "Start leaf-reader-of-the-long-name from mnist-pipeline",
        "A copy",
    ]
    assert not git(started, "status", "--porcelain")
    pattern = "mnist[-_]pipeline|mnist-mlp|tools/start|make start"
    found = subprocess.run(
        ["git", "grep", "--ignore-case", "--name-only", "--extended-regexp", pattern],
        cwd=started,
        capture_output=True,
        text=True,
    )
    assert found.stdout.splitlines() == ["CHANGELOG.md", "LICENSE"]  # where it came from, and who wrote it


def test_the_dataset_is_still_called_mnist(started: Path) -> None:
    package = "leaf_reader_of_the_long_name"
    code = f"from {package}.data.source import DataSource, model_name as m; from {package}.config import CHAMPION as c"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; print(DataSource().dataset, m('mnist'), m('pets'), c)"],
        cwd=started,
        env=os.environ | {"PYTHONPATH": str(started)},
        capture_output=True,
        text=True,
    )
    assert result.stdout == "mnist leaves pets-mlp models:/leaves@champion\n", result.stderr


def test_the_new_project_is_linted_and_formatted(started: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for words in (["check"], ["format", "--check"]):
        result = subprocess.run([ruff, *words], cwd=started, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout


def test_a_second_start_is_refused(copy: Path, tmp_path: Path) -> None:
    again = shutil.copytree(copy, tmp_path / "again")
    (again / "mnist_pipeline").rename(again / "leaf_reader")
    assert start(again, "tree-reader").stderr == "This project has a name of its own already\n"
