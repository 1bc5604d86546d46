"""The fingerprint covers all that decides what a training produces."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_pipeline.config import ROOT, TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking.provenance import fingerprint, provenance

CHANGE_FILES = """
from pathlib import Path
import numpy as np
from mnist_pipeline.config import CODE, TrainConfig
from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.data.splits import Splits, make_examples
from mnist_pipeline.tracking.provenance import fingerprint

assert CODE == Path.cwd()  # the copy, and not the checkout
part = make_examples(LabelledImages(np.zeros((2, 28, 28), np.uint8), np.array([0, 1])))
print(fingerprint(TrainConfig(), Splits(part, part, part)))
library = [f"mnist_pipeline/{file}.py" for file in ("config", "data/splits", "training/optimizers", "tracking/models")]
for file in [*library, "tasks/train.py"]:
    with (CODE / file).open("a") as source:
        source.write("# changed")
    print(fingerprint(TrainConfig(), Splits(part, part, part)))
"""


@pytest.mark.slow
def test_a_changed_source_file_in_any_wing_changes_the_fingerprint(tmp_path: Path) -> None:
    bundled = shutil.ignore_patterns("bundled")
    for package in ("mnist_pipeline", "tasks"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=bundled)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    printed = subprocess.run(
        [sys.executable, "-c", CHANGE_FILES], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    )
    assert printed.returncode == 0
    assert len({*printed.stdout.splitlines()}) == 6


def test_config_data_and_the_datasets_name_change_the_fingerprint(splits: Splits) -> None:
    config = TrainConfig()
    first = fingerprint(config, splits)
    assert fingerprint(config, splits) == first
    assert fingerprint(replace(config, seed=1), splits) != first
    assert fingerprint(config, replace(splits, train=splits.test)) != first
    other = replace(splits.source, dataset=str(ROOT / "docs"), name="other")
    assert fingerprint(config, replace(splits, source=other)) != first  # its runs are in another experiment


def test_provenance_names_versions_and_the_git_commit() -> None:
    assert {"python", "torch", "mlflow", "prefect", "mlflow.user", "git_commit"} <= provenance().keys()
