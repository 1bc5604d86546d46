"""One temporary home, one Prefect API and one trained model for the whole session."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import mlflow
import pytest
from mlflow import MlflowClient

# Before anything imports Prefect or MLflow: the tests touch no database of the user's, and no server.
HOME = tempfile.TemporaryDirectory(prefix="mnist-pipeline-tests-")
os.environ |= {
    "PREFECT_HOME": f"{HOME.name}/prefect",
    "PREFECT_UI_URL": "http://127.0.0.1:9",  # nothing listens there
    "MLFLOW_TRACKING_URI": f"sqlite:///{HOME.name}/mlflow.db",
}
os.environ.pop("PREFECT_API_URL", None)

from flows.prefect_api import ensure_prefect_api  # noqa: E402
from flows.train_flow import Trained, train_flow  # noqa: E402
from mnist_pipeline.config import TrainConfig  # noqa: E402
from mnist_pipeline.data import mnist  # noqa: E402
from mnist_pipeline.data.source import DataSource  # noqa: E402
from mnist_pipeline.data.splits import Splits, load_splits  # noqa: E402
from mnist_pipeline.tracking import sqlite, store  # noqa: E402

# The files that take minutes, the longest first: what takes long must not begin last
LONGEST = ["test_machines", "test_kills", "test_tracking_server", "test_network", "test_disk", "test_signals"]
LONGEST += ["test_loop_example", "test_prefect", "test_sweep_flow", "test_database"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def same_store_afterwards() -> Iterator[None]:
    """Return to the MLflow store that the test began with: which one is used is a global of MLflow's."""
    uri = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(uri)


@pytest.fixture(scope="session")
def empty_database(home: Path) -> Path:
    """An empty database as a first run creates it, which takes MLflow's migrations two seconds."""
    file = home / "empty.db"
    sqlite.create(file)
    return file


@pytest.fixture
def empty_store(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    store.prepare()
    assert store.experiment_id("mnist") == "1"
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="session")
def home() -> Path:
    return Path(HOME.name)


@pytest.fixture(scope="session")
def model_files(home: Path) -> str:
    """The files of a version that is never loaded: it has weights, of nothing."""
    weights = home / "model" / store.WEIGHTS
    weights.parent.mkdir(parents=True)
    with ZipFile(weights, "w"):
        pass
    return f"{home}/model"


@pytest.fixture(scope="session")
def source(home: Path) -> DataSource:
    return DataSource(data_dir=home / "MNIST_data")


@pytest.fixture(scope="session")
def files(source: DataSource) -> Path:
    return mnist.download(source)


@pytest.fixture(scope="session")
def splits(source: DataSource, files: Path) -> Splits:
    return load_splits(source, files)


@pytest.fixture(scope="session")
def prefect_api() -> str:
    """The URL of a real Prefect API on a database of its own."""
    ensure_prefect_api()
    return os.environ["PREFECT_API_URL"]


@pytest.fixture(scope="session")
def trained(prefect_api: str, source: DataSource) -> Trained:
    """The result of one epoch of the flow on the real data."""
    return train_flow(TrainConfig(epochs=1), source)
