"""Runs end as they should, and a registered model works far from here."""

import sqlite3
import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.utils import requirements_utils

from flows.train_flow import Trained
from mnist_pipeline import tracking, unfinished
from mnist_pipeline.data import Splits
from mnist_pipeline.evaluation import predict
from mnist_pipeline.model import MLP
from mnist_pipeline.registry import Registry
from mnist_pipeline.store import unfinished_folder

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
    import mlflow

    model = mlflow.pyfunc.load_model(trained.model.uri)
    assert model.predict(np.zeros((1, 28, 28), np.uint8)).shape == (1, 10)
    for wrong in (np.zeros((1, 28, 28), np.float32), np.zeros((1, 784), np.uint8)):
        with pytest.raises(Exception, match="schema"):
            model.predict(wrong)


def test_the_plain_weights_lie_beside_the_model(trained: Trained, splits: Splits) -> None:
    state_dict = download_artifacts(f"{trained.model.uri}/extra_files/state_dict.pt")
    mlp = MLP(784, [100, 100], 10)
    mlp.load_state_dict(torch.load(state_dict, weights_only=True))
    assert torch.equal(predict(mlp, splits.test.images), trained.test.probabilities)


def test_a_model_names_its_requirements_and_no_other_package_is_looked_at(
    empty_store: MlflowClient, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = "mlflow.utils.requirements_utils.importlib_metadata.packages_distributions"
    monkeypatch.setattr(look, lambda: looks.append("at all of them"))
    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)  # as in a process that has not looked yet
    with tracking.start_run(params={}, tags={}) as run:
        uri = run.log_model(MLP(784, [], 10), splits.test.pixels[:2], step=1)
    assert not looks
    assert requirements_utils._MODULES_TO_PACKAGES is None
    folder = Path(empty_store.get_logged_model(uri.removeprefix("models:/")).artifact_location)
    requirements = (folder / "requirements.txt").read_text().split()
    assert requirements == [f"{package}=={version_of(package)}" for package in ("torch", "mlflow", "numpy")]


def test_the_first_version_is_the_champion_and_every_later_one_the_challenger(
    empty_store: MlflowClient, splits: Splits
) -> None:
    for number in (1, 2, 3):
        with tracking.start_run(params={}, tags={}) as run:
            uri = run.log_model(MLP(784, [], 10), splits.test.pixels[:2], step=1)
            model = Registry().promote_first(Registry().register(run, uri, description="", tags={}))
        assert (model.number, model.alias) == (number, "champion" if number == 1 else "challenger")
    assert empty_store.get_registered_model("mnist-mlp").aliases == {"champion": 1, "challenger": 3}


def test_all_that_a_run_writes_stands_beside_the_database(
    empty_store: MlflowClient, splits: Splits, tmp_path: Path
) -> None:
    with tracking.start_run(params={}, tags={}) as run:
        uri = run.log_model(MLP(784, [], 10), splits.test.pixels[:2], step=1)
    assert run.artifacts == str(tmp_path / "mlartifacts" / run.id / "artifacts")
    model = empty_store.get_logged_model(uri.removeprefix("models:/"))
    assert model.artifact_location.startswith(str(tmp_path / "mlartifacts"))
    assert (Path(model.artifact_location) / "MLmodel").is_file()


def test_a_table_that_is_logged_again_takes_the_place_of_the_first(empty_store: MlflowClient) -> None:
    with tracking.start_run(params={}, tags={}) as run:
        run.log_table([{"trial": 0, "lr": 0.1}], "trials")
        run.log_table([{"trial": 0, "lr": 0.1}, {"trial": 1, "layers": 2}], "trials")
    table = empty_store.load_table(run.experiment_id, "trials.json")
    assert table["trial"].tolist() == [0, 1]
    assert table["layers"].tolist()[1] == 2


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_a_run_ends_with_what_ended_it(empty_store: MlflowClient, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), tracking.start_run(params={}, tags={}) as run:
        raise error
    assert empty_store.get_run(run.id).info.status == status
    folder = unfinished_folder()
    assert unfinished.is_alive(folder, unfinished.this_process(folder))  # it may have other runs


def test_a_signal_in_the_middle_of_a_write_leaves_no_lock_in_the_way(empty_store: MlflowClient, tmp_path: Path) -> None:
    def interrupted() -> None:
        connection = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tracking.start_run(params={}, tags={}) as run:
        interrupted()
    assert empty_store.get_run(run.id).info.status == "KILLED"


def test_runs_that_are_known_by_a_tag_can_be_ended_from_outside(empty_store: MlflowClient) -> None:
    with tracking.start_run(params={}, tags={"prefect.flow_run_id": "a"}) as run:
        pass
    with tracking.start_run(params={}, tags={"prefect.flow_run_id": "b"}) as other:
        pass
    tracking.end_runs("KILLED", **{"prefect.flow_run_id": "a"})
    assert [empty_store.get_run(r.id).info.status for r in (run, other)] == ["KILLED", "FINISHED"]


def test_a_run_of_another_store_is_begun_anew(empty_store: MlflowClient) -> None:
    with tracking.start_run(params={}, tags={}, run_id="0" * 32) as run:
        assert run.id != "0" * 32
    assert empty_store.get_run(run.id).info.status == "FINISHED"
