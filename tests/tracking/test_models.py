"""A registered model works in a process that knows nothing of this project."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path

import importlib_metadata
import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from flows.train_flow import Trained
from mnist_pipeline.config import Gate
from mnist_pipeline.data.mnist import BUNDLED
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking.models import load_network, log_model
from mnist_pipeline.tracking.registry import ModelVersion, Registry
from mnist_pipeline.tracking.runs import start_run
from mnist_pipeline.training.evaluation import predict
from mnist_pipeline.training.model import MLP
from serving import champion as served
from tasks.gate import decide
from tasks.predict import predict as predict_task

IMAGES = BUNDLED / "t10k-images-idx3-ubyte.gz"
ELSEWHERE = """
import sys
sys.modules |= dict.fromkeys(["mnist_pipeline", "tasks", "flows", "prefect", "torchvision", "sklearn"])  # none of ours
import mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
numpy.save("probabilities.npy", model.predict(numpy.load("pixels.npy")))
"""


def test_a_registered_model_gives_the_same_probabilities_in_a_clean_process(
    trained: Trained, splits: Splits, home: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "pixels.npy", splits.test.pixels[:100].numpy())
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, trained.model.uri],
        cwd=tmp_path,
        env={
            "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        check=True,
    )
    probabilities = np.load(tmp_path / "probabilities.npy")
    assert (probabilities.shape, probabilities.dtype) == ((100, 10), np.float32)
    assert np.allclose(probabilities, trained.test.probabilities[:100], atol=1e-6)


def test_a_model_refuses_what_is_not_a_raw_image(trained: Trained) -> None:
    model = mlflow.pyfunc.load_model(trained.model.uri)
    assert model.predict(np.zeros((1, 28, 28), np.uint8)).shape == (1, 10)
    for wrong in (np.zeros((1, 28, 28), np.float32), np.zeros((1, 784), np.uint8)):
        with pytest.raises(Exception, match="schema"):
            model.predict(wrong)


def test_the_plain_weights_are_beside_the_model(trained: Trained, splits: Splits) -> None:
    state_dict = download_artifacts(f"{trained.model.uri}/extra_files/state_dict.pt")
    mlp = MLP(784, [100, 100], 10)
    mlp.load_state_dict(torch.load(state_dict, weights_only=True))
    assert torch.equal(predict(mlp, splits.test.images), trained.test.probabilities)


@pytest.fixture
def weights(empty_store: MlflowClient, splits: Splits) -> Path:
    """The file with the weights of version 1 of `digits`, the champion."""
    with start_run(params={}, tags={}) as run:
        uri = log_model(run, MLP(784, [], 10), splits.test.pixels[:2], step=1)
        Registry("digits").promote_first(Registry("digits").register(run, uri, description="", tags={}))
    folder = empty_store.get_logged_model(uri.removeprefix("models:/")).artifact_location
    return Path(folder) / "extra_files" / "state_dict.pt"


def test_a_model_whose_probabilities_are_not_finite_is_not_served_predicted_with_or_compared_with(
    weights: Path, trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    broken = {name: torch.full_like(each, float("nan")) for name, each in torch.load(weights).items()}
    torch.save(broken, weights)
    model = ModelVersion("digits", 2, "challenger")
    MlflowClient().create_model_version("digits", str(weights.parents[1]))
    uses: list[Callable[[], object]] = [
        lambda: served.load(Registry("digits"), 1),
        lambda: predict_task.fn(IMAGES, tmp_path / "p.csv", model_uri="models:/digits/1", version=1),
        lambda: decide.fn(model, splits.holdout, trained.holdout, Gate(), trained.run, reload_gap=0.0),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="models:/digits/1 cannot be used: its probabilities are not finite"):
            use()
    assert not (tmp_path / "p.csv").exists()


def test_files_of_a_model_that_are_gone_are_named(weights: Path) -> None:
    shutil.rmtree(weights.parents[1])
    with pytest.raises(ValueError, match=r"models:/digits/1 cannot be loaded from the plain weights .*: .*No such"):
        load_network("models:/digits/1")


def test_a_model_names_its_requirements_and_installed_packages_are_not_searched(
    empty_store: MlflowClient, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[str] = []
    monkeypatch.setattr(importlib_metadata, "packages_distributions", lambda: searches.append("all"))
    with start_run(params={}, tags={}) as run:
        uri = log_model(run, MLP(784, [], 10), splits.test.pixels[:2], step=1)
    assert not searches  # a second of each training: it fails if MLflow stores its map elsewhere
    folder = Path(empty_store.get_logged_model(uri.removeprefix("models:/")).artifact_location)
    requirements = (folder / "requirements.txt").read_text().split()
    assert requirements == [f"{package}=={version_of(package)}" for package in ("torch", "mlflow", "numpy")]
