"""A user's own data, from a folder to the champion: 8×8 digits under the names of words."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient, artifacts
from PIL import Image, ImageOps
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from pyarrow import csv
from sklearn.datasets import load_digits

from flows.predict_flow import predict_flow
from flows.retrain_flow import Retrained, retrain_flow
from flows.train_flow import Trained, train_flow
from mnist_pipeline.config import FAST, FieldError, Gate
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import load_splits
from mnist_pipeline.data.validation import DataError
from mnist_pipeline.tracking import models, runs, store
from mnist_pipeline.tracking.registry import Registry
from serving.app import create_app
from tasks.trial import trial

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CONFIG = replace(FAST, epochs=20, batch_size=32, tta=True)
LAX = Gate(floor=0.8, margin=0.1, recall_margin=0.5, calibration_margin=0.1)
REGISTRY = Registry("words-mlp")


def write(folder: Path, rows: slice) -> Path:
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[rows], digits.target[rows], strict=True)):
        (folder / WORDS[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(folder / WORDS[label] / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("own") / "words", slice(1500))


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that are not in the first folder, and ten that are."""
    return write(tmp_path_factory.mktemp("own") / "more", slice(1490, None))


@pytest.fixture(scope="module")
def first(prefect_api: str, own: Path) -> Trained:
    return train_flow(CONFIG, DataSource(dataset=str(own)))


@pytest.fixture(scope="module")
def grown(first: Trained, own: Path, more: Path) -> State[Any]:
    return retrain_flow(CONFIG, DataSource(dataset=str(own), extra=more), LAX, return_state=True)


def table(run_id: str, name: str) -> list[dict[str, Any]]:
    content = artifacts.load_dict(f"runs:/{run_id}/{name}.json")
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_the_model_has_the_classes_and_the_image_size_of_the_folder(first: Trained) -> None:
    assert first.model.uri == "models:/words-mlp/1"
    assert first.test.accuracy > 0.9
    schema = models.load_network(first.model.uri).schema
    assert schema.classes == tuple(sorted(WORDS))
    assert (schema.height, schema.width) == (8, 8)
    info = MlflowClient().get_model_version("words-mlp", "1")
    assert info.tags["layers"] == "64-100-100-10"


def test_the_numbers_of_each_class_are_a_table_of_the_run(first: Trained) -> None:
    recall = {row["class"]: row["recall"] for row in table(first.run.id, "classes") if row["set"] == "holdout"}
    assert recall == dict(zip(first.holdout.classes, first.holdout.recall.tolist(), strict=True))


def test_every_dataset_has_an_experiment_of_its_own(first: Trained) -> None:
    experiment = MlflowClient().get_experiment(first.run.experiment_id)
    source = str(MlflowClient().get_model_version("words-mlp", "1").source)
    model = MlflowClient().get_logged_model(source.removeprefix("models:/"))
    assert (experiment.name, model.experiment_id) == ("words", experiment.experiment_id)


def test_the_checks_of_the_data_are_on_the_run_and_on_the_flow_runs_page(first: Trained) -> None:
    rows = {row["check"]: row for row in table(first.run.id, "validation")}
    assert rows["labels"]["message"] == "10 classes, each in all three splits"
    assert {row["level"] for row in rows.values()} == {"ok"}
    flow_run = MlflowClient().get_run(first.run.id).data.tags["prefect.flow_run_id"]
    with get_client(sync_client=True) as prefect:
        found = prefect.read_artifacts(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))  # type: ignore[list-item]
    assert "data-validation" in {artifact.key for artifact in found}


def test_predictions_are_the_names_of_the_classes(first: Trained, more: Path, tmp_path: Path) -> None:
    predicted = predict_flow(more, first.model.uri, tmp_path / "p.csv")
    rows = csv.read_csv(predicted.out).to_pylist()
    assert sum(Path(row["image"]).parent.name == row["prediction"] for row in rows) > 0.8 * len(rows)
    assert {f"p_{name}" for name in WORDS} < rows[0].keys()


def test_a_model_of_other_images_than_digits_splits_no_rows(first: Trained, more: Path, tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="split must be left out: the model is not of digits"):
        predict_flow(more, first.model.uri, tmp_path / "p.csv", split=True)
    assert not (tmp_path / "p.csv").exists()


def test_the_server_answers_with_the_names_on_images_of_that_size(first: Trained, more: Path) -> None:
    with TestClient(create_app(first.model.uri), base_url="http://127.0.0.1:8000") as web:
        card = web.get("/model").json()
        assert (card["classes"], card["image_size"]) == (sorted(WORDS), [8, 8])
        file = next((more / "zero").iterdir())
        png = {"content-type": "image/png"}
        (as_it_is,) = web.post("/predict?seen=true", content=file.read_bytes(), headers=png).json()["predictions"]
        assert as_it_is["label"] == "zero"
        assert as_it_is["seen"] == np.asarray(Image.open(file)).tolist()
        large = io.BytesIO()
        Image.open(file).resize((320, 320), Image.Resampling.BICUBIC).save(large, "PNG")
        answer = web.post("/predict?seen=true", content=large.getvalue(), headers=png).json()
        assert answer["predictions"][0]["label"] == "zero"
        assert np.shape(answer["predictions"][0]["seen"]) == (8, 8)
        refusal = web.post("/predict", json=[[0] * 28] * 28)
        assert "(8, 8) or (N, 8, 8)" in refusal.json()["detail"]


def test_a_retraining_on_more_data_reports_how_far_they_have_drifted(grown: State[Any]) -> None:
    retrained: Retrained = grown.result()
    run = MlflowClient().get_run(retrained.trained.run.id)
    (extra,) = (row for row in table(run.info.run_id, "validation") if row["check"] == "extra images")
    joined = int(run.data.params["extra_size"])
    assert 240 < joined < 290  # of 307: some are there already, some are kept for the holdout
    assert extra["message"].startswith(f"{joined} of more joined the training split; ")
    rows = table(run.info.run_id, "drift")
    assert {row["part"] for row in rows} == {"training", "extra"}
    assert {row["verdict"] for row in rows if row["part"] == "training"} == {"none"}


def test_the_report_says_which_data_are_far_from_the_champions(first: Trained, own: Path, tmp_path: Path) -> None:
    for file in sorted(own.rglob("*.png"))[::10]:
        inverted = tmp_path / "inverted" / file.relative_to(own)
        inverted.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.invert(Image.open(file)).save(inverted)
    source = DataSource(dataset=str(own), extra=tmp_path / "inverted")
    report = train_flow(replace(CONFIG, epochs=1), source)
    drifted = [each.message for each in report.findings if each.check == "drift"]
    assert any(each.startswith("the extra data are far from the champion's: brightness, ") for each in drifted)


def test_the_holdout_stays_the_same_and_the_ledger_says_which_data_made_which_version(
    first: Trained, grown: State[Any]
) -> None:
    runs = [MlflowClient().get_run(run_id) for run_id in (first.run.id, grown.result().trained.run.id)]
    assert len({run.data.params["holdout_sha256"] for run in runs}) == 1
    assert len({run.data.params["data_sha256"] for run in runs}) == 2  # more images joined the training split
    before, after = REGISTRY.history()
    assert "from more" not in before.data
    assert "of them from more" in after.data


def test_a_trial_refuses_data_other_than_the_sweeps(first: Trained, own: Path) -> None:
    source = DataSource(dataset=str(own))
    split = load_splits(source, own).train.sha256
    config = replace(FAST, epochs=1, batch_size=32)
    with runs.start_run(params={}, tags={}) as sweep:
        options = {"sweep": sweep.id, "process": "p", "tracking_uri": store.tracking_uri()}
        assert trial.fn(0, config, source, data_sha256=split, **options).accuracy > 0.3
        with pytest.raises(ValueError, match="on this worker differ from those that the sweep started with"):
            trial.fn(1, config, source, data_sha256="another", **options)


def test_a_champion_that_learnt_from_the_holdout_is_reported_where_it_is_compared(
    first: Trained, own: Path, tmp_path: Path
) -> None:
    for number, file in enumerate(sorted(own.rglob("*.png"))):  # the same images, divided anew
        part = "train" if number % 5 else "test"
        (tmp_path / "words" / part / file.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "words" / part / file.parent.name / file.name).symlink_to(file)
    report = train_flow(replace(CONFIG, epochs=1), DataSource(dataset=str(tmp_path / "words")))
    (message,) = (each.message for each in report.findings if each.check == "champion")
    assert re.match(r"the champion has learnt from \d+ of the 300 images of the holdout: the gate", message)


def test_a_champion_of_another_dataset_of_the_same_name_is_reported(first: Trained, own: Path, tmp_path: Path) -> None:
    for file in own.rglob("*.png"):
        other = tmp_path / own.name / file.parent.name / file.name
        other.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            ImageOps.invert(image).save(other)
    report = train_flow(replace(CONFIG, epochs=1), DataSource(dataset=str(tmp_path / own.name)))
    (message,) = (each.message for each in report.findings if each.check == "champion")
    assert "the champion has learnt from none of these images: if they are another dataset" in message


def test_data_of_another_size_are_not_compared_with_this_champion(first: Trained, own: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"knows 10 classes .* of images 8×8, and the data have .* 16×16: if .*--image-size 8 .*; "
        "or give the dataset another name",
    ):
        retrain_flow(CONFIG, DataSource(dataset=str(own), image_size=16), LAX)


def test_data_that_must_not_be_trained_on_end_the_run_before_its_training(
    prefect_api: str, own: Path, tmp_path: Path
) -> None:
    for part in ("train", "test"):
        (tmp_path / "leaky" / part).parent.mkdir(exist_ok=True)
        (tmp_path / "leaky" / part).symlink_to(own)
    with pytest.raises(DataError, match=r"the data of leaky-mlp cannot be trained on: leaks: .* in train and holdout"):
        train_flow(CONFIG, DataSource(dataset=str(tmp_path / "leaky")))
    experiment = MlflowClient().get_experiment_by_name("leaky")
    assert experiment
    (run,) = MlflowClient().search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert "train_loss" not in run.data.metrics
    (leaks,) = (row for row in table(run.info.run_id, "validation") if row["check"] == "leaks")
    assert leaks["level"] == "error"
