"""Predictions with a registered model, as a flow and as its users type it."""

import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from pyarrow import csv, parquet

from flows.predict_flow import predict_flow
from flows.train_flow import Trained
from mnist_pipeline.config import ROOT, FieldError
from mnist_pipeline.data.mnist import BUNDLED
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import models, registry
from tasks.predict import predict

COMMAND = [sys.executable, str(ROOT / "flows" / "predict_flow.py")]
HOLDOUT = BUNDLED / "t10k-images-idx3-ubyte.gz"


def run(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *words], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_predictions_of_the_holdout_are_those_of_the_evaluation(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    predicted = predict_flow(HOLDOUT, trained.model.uri, tmp_path / "p.parquet")
    table = parquet.read_table(predicted.out)
    assert sum(
        a == b for a, b in zip(table["prediction"].to_pylist(), splits.holdout.labels.tolist(), strict=True)
    ) == (trained.holdout.correct)
    assert set(table["model_version"].to_pylist()) == {trained.model.number}
    assert sum(predicted.counts.values()) == predicted.total == 10_000


def test_what_is_unsure_is_counted_and_left_empty(trained: Trained, tmp_path: Path) -> None:
    predicted = predict_flow(HOLDOUT, trained.model.uri, tmp_path / "p.parquet", min_confidence=0.9)
    confident = int((trained.holdout.probabilities.amax(dim=1) >= 0.9).sum())
    assert len(parquet.read_table(predicted.out)["prediction"].drop_null()) == confident
    assert predicted.counts["unsure"] == 10_000 - confident
    assert sum(predicted.counts.values()) == predicted.total == 10_000


def test_the_network_of_the_plain_weights_gives_the_models_probabilities(trained: Trained, splits: Splits) -> None:
    pixels = splits.holdout.pixels[:500]
    network, model = models.load_network(trained.model.uri), mlflow.pyfunc.load_model(trained.model.uri)
    assert np.abs(network(pixels).numpy() - model.predict(pixels.numpy())).max() < 1e-6


def test_images_that_cannot_be_read_are_listed_and_left_out(trained: Trained, splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, digit in enumerate(splits.holdout.pixels[:3].numpy()):
        Image.fromarray(255 - digit).resize((100, 100)).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    (tmp_path / "in" / "a.heic").touch()
    result = run("in", "--out", "p.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "3 images → p.csv, with models:/mnist-mlp/" in result.stdout
    assert "1 image not read, and left out" in result.stdout
    assert "Left out: .heic files, which are not read: 1" in result.stdout
    assert "Not read: broken.png: it is not a PNG, JPEG" in result.stderr
    assert csv.read_csv(tmp_path / "p.csv")["image"].to_pylist() == ["0.png", "1.png", "2.png"]


def test_predictions_never_take_the_place_of_their_images(tmp_path: Path) -> None:
    images = tmp_path / "images.csv"
    images.write_bytes(HOLDOUT.read_bytes())
    (tmp_path / "link.csv").symlink_to(images)
    with pytest.raises(FieldError, match="out must be another file"):
        predict.fn(images, tmp_path / "link.csv", model_uri="", version=1)


def test_a_row_of_digits_is_read_as_a_number_and_its_steps_are_drawn(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    row = Image.fromarray(255 - np.hstack([*splits.holdout.pixels[:3].numpy()]))
    (tmp_path / "in").mkdir()
    row.resize((840, 280)).save(tmp_path / "in" / "row.png")
    out, steps = tmp_path / "p.parquet", tmp_path / "steps"
    predict_flow(tmp_path / "in", trained.model.uri, out, split=True, explain=steps)
    assert parquet.read_table(out)["number"].to_pylist() == ["721"] * 3
    assert (steps / "row.png.png").is_file()


def test_the_result_is_on_the_flow_runs_page(trained: Trained, tmp_path: Path) -> None:
    state = predict_flow(HOLDOUT, "models:/mnist-mlp@champion", tmp_path / "p.parquet", return_state=True)
    with get_client(sync_client=True) as prefect:
        (artifact,) = (
            artifact for artifact in prefect.read_artifacts() if artifact.flow_run_id == state.state_details.flow_run_id
        )
    assert "10,000 predictions of `models:/mnist-mlp/" in str(artifact.data)


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("mnist-mlp", "given as models:/"),
        ("../../escaped", "given as models:/"),
        ("models:/../../escaped/1", "given as models:/"),
        ("models:/mnist-mlp@nobody", "mnist-mlp has no nobody: its versions are 1"),
        ("models:/mnist-mlp/999", "mnist-mlp has no version 999: its versions are 1"),
        ("models:/other/1", "there is no model other in .*: the models are .*mnist-mlp"),
    ],
)
def test_a_missing_model_is_one_clear_error(trained: Trained, uri: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        registry.resolve(uri)
