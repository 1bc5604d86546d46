"""The examples run, as they are typed."""

import subprocess
import sys
from pathlib import Path

from mnist_pipeline.config import ROOT
from mnist_pipeline.data import Splits


def test_the_comparisons_make_their_page(splits: Splits, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "comparisons.py"), "--epochs", "1", "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "comparisons.md").read_text()
    assert "| 784-10 | adam |" in page
    assert "| 784-100-100-10 | rmsprop |" in page
    assert {file.name for file in tmp_path.glob("*.png")} == {"comparisons-loss.png", "comparisons-xor.png"}
