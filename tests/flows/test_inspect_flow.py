"""The inspection of labels: planted ones are found, and what its table corrects is trained on."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from prefect.client.orchestration import get_client
from sklearn.datasets import load_digits

from flows.inspect_flow import Inspected, inspect_flow
from mnist_pipeline.config import FAST, Inspection
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import load_splits

CONFIG = replace(FAST, epochs=20, batch_size=32, validation=0.2)
WRONG = range(0, 600, 40)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 digits, of which 15 are in the folder of the next one."""
    folder = tmp_path_factory.mktemp("own") / "digits"
    data = load_digits()
    for number, (image, label) in enumerate(zip(data.images[:600], data.target, strict=False)):
        place = folder / str((label + (number in WRONG)) % 10)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "issues.csv"


@pytest.fixture(scope="module")
def inspected(prefect_api: str, digits: Path, out: Path) -> Inspected:
    return inspect_flow(Inspection(folds=4), CONFIG, DataSource(dataset=str(digits), name="inspected"), out=out)


def test_planted_labels_are_found_and_not_those_of_the_holdout(inspected: Inspected, digits: Path) -> None:
    holdout = load_splits(DataSource(dataset=str(digits)), digits).holdout.names
    assert holdout is not None
    planted = {number for number in WRONG if not any(name.endswith(f"/{number}.png") for name in holdout)}
    found = {int(Path(issue.file).stem) for issue in inspected.issues}
    assert len(found & planted) >= 0.9 * len(planted)
    assert len(found) <= 2 * len(planted)
    assert not {*holdout} & {issue.file for issue in inspected.issues}


def test_the_run_has_the_table_the_sheet_and_the_cross_validated_accuracy(inspected: Inspected, out: Path) -> None:
    run = MlflowClient().get_run(inspected.run.id)
    assert run.data.params["validation"] == "0.0"  # a fold learns from all of its images
    assert {file.path for file in MlflowClient().list_artifacts(run.info.run_id)} >= {"issues.csv", "issues.png"}
    assert run.data.metrics["cv_accuracy"] == inspected.evaluation.accuracy > 0.8
    assert run.data.metrics["label_issues"] == len(inspected.issues)
    assert len(MlflowClient().get_metric_history(run.info.run_id, "fold_accuracy")) == 4
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.width > 1000


def test_the_worst_are_shown_and_on_the_flow_runs_page(inspected: Inspected) -> None:
    assert inspected.issues[0].file in str(inspected)
    assert "points from fold to fold" in str(inspected)
    flow_run = MlflowClient().get_run(inspected.run.id).data.tags["prefect.flow_run_id"]
    with get_client(sync_client=True) as prefect:
        keys = {each.key for each in prefect.read_artifacts() if str(each.flow_run_id) == flow_run}
    assert "label-issues" in keys


def test_the_edited_table_is_given_back(inspected: Inspected, digits: Path, out: Path) -> None:
    with out.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    edited = out.with_name("edited.csv")
    with edited.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=";")
        writer.writeheader()
        writer.writerows(row | {"label": row["likely"]} for row in rows)
    splits = load_splits(DataSource(dataset=str(digits), relabel=edited), digits)
    assert str(splits.relabelled) == f"{len(rows)} labels changed and 0 images removed by edited.csv"
    source = DataSource(dataset=str(digits), name="inspected", relabel=edited)
    again = out.with_name("again.csv")
    inspect_flow(Inspection(folds=2), replace(CONFIG, epochs=2), source, out=again)
    splits = load_splits(DataSource(dataset=str(digits), relabel=again), digits)
    assert str(splits.relabelled) == f"{len(rows)} labels changed and 0 images removed by again.csv"
