"""What the flows leave behind: git ignores it, and `make reset` deletes it once that is confirmed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mnist_pipeline.config import ROOT

LEFT = [
    "mlflow.db",
    "mlflow.db.lock",
    "mlflow.lock",
    "optuna.db",
    "served.db",
    "served.db-journal",
    "mlartifacts/1",
    "in_progress/1",
    "MNIST_data/MNIST",
]


@pytest.mark.parametrize("name", [*LEFT, "predictions.parquet", "predictions.csv"])
def test_git_ignores_what_the_flows_leave_behind(name: str) -> None:
    subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, check=True)


@pytest.mark.parametrize(("answer", "kept"), [("y\n", ["README.md"]), ("n\n", ["README.md", *LEFT]), ("", None)])
def test_reset_deletes_what_the_flows_left_behind_if_that_is_confirmed(
    tmp_path: Path, answer: str, kept: list[str] | None
) -> None:
    for name in ["README.md", *LEFT]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    make = ["make", "--file", str(ROOT / "Makefile"), "reset"]
    subprocess.run(make, cwd=tmp_path, input=answer, text=True, check=True, capture_output=True)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept or ["README.md", *LEFT])


def test_a_path_may_have_spaces_and_quotes(tmp_path: Path) -> None:
    project = tmp_path / 'it\'s "mine" now'
    (project / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, project / name)
    (project / ".venv" / "installed").touch()
    python = project / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    made = subprocess.run(
        ["make", "--silent", "-C", project, "train", "ARGS=--epochs 3"], text=True, capture_output=True
    )
    assert (made.returncode, made.stdout) == (0, "flows/train_flow.py --epochs 3\n"), made.stderr
