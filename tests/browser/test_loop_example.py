"""The loop of examples/loop.py, as it is written."""

from pathlib import Path

import pytest

from mnist_pipeline.config import ROOT
from tests.test_examples import example

pytestmark = pytest.mark.browser


def test_in_the_loop_example_the_same_digits_are_read_better_by_what_learnt_the_corrections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"PYTHONPATH": str(ROOT), "MNIST_PIPELINE_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}
    for name, value in (own | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    before, after, verdict = example("loop").main(tmp_path)
    assert after > before
    assert "Promoted: accuracy" in verdict
