"""The folds of an inspection on a real Dask cluster."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.cluster import task_runner
from flows.inspect_flow import inspect_flow
from mnist_pipeline.config import FAST, Inspection
from mnist_pipeline.data.source import DataSource

pytestmark = pytest.mark.cluster


def test_folds_in_processes_find_what_folds_in_turn_find(prefect_api: str, source: DataSource, tmp_path: Path) -> None:
    config = replace(FAST, epochs=1, hidden=(16,))
    in_turn = inspect_flow(Inspection(folds=2), config, source, out=tmp_path / "a.csv")
    inspection = Inspection(folds=2, workers=2)
    flow = inspect_flow.with_options(task_runner=task_runner(inspection))
    in_processes = flow(inspection, config, source, out=tmp_path / "b.csv")
    assert in_processes.issues == in_turn.issues
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
