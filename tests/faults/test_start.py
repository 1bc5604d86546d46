"""The quick tests of a project that took another name pass, and its command trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_start import copy_project, start

pytestmark = pytest.mark.faults


def test_a_started_project_passes_its_tests_and_trains(tmp_path: Path) -> None:
    copy = copy_project(tmp_path)
    assert start(copy, "leaf-reader", "leaves").returncode == 0
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    tests = ["tests/test_config.py", "tests/test_house.py", "tests/test_readme.py", "tests/data/test_source.py"]
    for words in (
        ["-m", "pytest", "--quiet", "-m", "not slow", *tests],
        ["flows/train_flow.py", "--recipe", "fast", "--epochs", "1"],
    ):
        result = subprocess.run(
            [sys.executable, *words], cwd=copy, env=own | {"PYTHONPATH": str(copy)}, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
    assert "models:/leaves@champion" in result.stdout
    assert (copy / "mlflow.db").is_file()
