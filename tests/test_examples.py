"""The examples run, as a reader would type them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import csv

from mnist_pipeline.config import ROOT
from mnist_pipeline.data.splits import Splits


@pytest.mark.slow
def test_scikit_learns_digits_go_from_a_folder_to_a_served_champion(prefect_api: str, tmp_path: Path) -> None:
    own = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    walk = subprocess.run(
        [sys.executable, ROOT / "examples" / "digits.py", "walk"],
        cwd=tmp_path,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert walk.returncode == 0, walk.stderr
    assert "models:/digits-mlp/1, models:/digits-mlp@champion" in walk.stdout
    assert re.search(r"1\d\d of them from more", walk.stdout)
    assert "97 images → walk/predictions.csv" in walk.stdout
    assert '"label":"0"' in walk.stdout
    rows = csv.read_csv(tmp_path / "walk" / "predictions.csv").to_pylist()
    assert sum(row["image"].startswith(f"{row['prediction']}/") for row in rows) > 0.9 * len(rows)


def test_the_comparisons_make_their_page(splits: Splits, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "comparisons.py"), "--epochs", "1", "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "comparisons.md").read_text()
    assert "| 784-10 | adam |" in page
    assert "| 784-100-100-10 | rmsprop |" in page
    assert {file.name for file in tmp_path.glob("*.png")} == {"comparisons-loss.png", "comparisons-xor.png"}
