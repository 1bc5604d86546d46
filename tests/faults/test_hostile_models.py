"""A hostile model under the champion's alias, and a hostile checkpoint: refused, and nothing that they bring is run."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cloudpickle  # type: ignore[import-untyped]
import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from flows.train_flow import Trained
from mnist_pipeline.config import Gate
from mnist_pipeline.data import mnist
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import models, reload_check, store
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.training import checkpoints
from serving.champion import Champion
from tasks.gate import decide
from tests.faults.conftest import Project, fails

PROOF = "/tmp/mnist-pipeline-code-was-run"
RUN = f"open({PROOF!r}, 'w').close()"
PYFUNC_MODULE = f"{RUN}\ndef _load_pyfunc(path):\n    {RUN}\n"


class Hostile:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, (RUN,)


@pytest.fixture(autouse=True)
def proof() -> Iterator[None]:
    """Whoever runs what a model brings leaves a file, which must not be there in the end."""
    Path(PROOF).unlink(missing_ok=True)
    yield
    assert not Path(PROOF).exists()


def mlmodel(loader: str, **fields: str) -> str:
    more = "".join(f"\n    {name}: {value}" for name, value in fields.items())
    return f"flavors:\n  python_function:\n    loader_module: {loader}{more}\n"


def pickled_pytorch(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data/model.pth").write_bytes(pickle.dumps(Hostile()))
    (folder / "data/pickle_module_info.txt").write_text("pickle")
    (folder / "MLmodel").write_text(mlmodel("mlflow.pytorch", data="data") + "  pytorch:\n    model_data: data\n")


def cloudpickled_pyfunc(folder: Path) -> None:
    (folder / "python_model.pkl").write_bytes(cloudpickle.dumps(Hostile()))
    fields = {"python_model": "python_model.pkl", "cloudpickle_version": cloudpickle.__version__}
    (folder / "MLmodel").write_text(mlmodel("mlflow.pyfunc.model", **fields))


def sklearn(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Hostile()))
    text = mlmodel("mlflow.sklearn", model_path="model.pkl")
    (folder / "MLmodel").write_text(
        f"{text}  sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\n"
    )


def model_from_code(folder: Path) -> None:
    (folder / "model.py").write_text(RUN)
    (folder / "MLmodel").write_text(mlmodel("mlflow.pyfunc.model", model_code_path="model.py"))


def loader_of_its_own(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code/hostile.py").write_text(PYFUNC_MODULE)
    (folder / "MLmodel").write_text(mlmodel("hostile", code="code"))


def code_beside_pt2(folder: Path) -> None:
    """The real thing, with modules beside it that stand in for those that loading it imports."""
    (folder / "code").mkdir()
    for name in ("sympy", "networkx", "mlflow_pytorch", "hostile"):
        (folder / "code" / f"{name}.py").write_text(PYFUNC_MODULE)
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(
        text.replace("loader_module: mlflow.pytorch", "loader_module: mlflow.pytorch\n    code: code")
    )


HOSTILE = [pickled_pytorch, cloudpickled_pyfunc, sklearn, model_from_code, loader_of_its_own, code_beside_pt2]


@pytest.fixture
def register(trained: Trained, tmp_path: Path) -> Callable[[Callable[[Path], None]], Registry]:
    """Register a hostile model, with hostile weights beside it, as champion of a name of its own."""

    def register(make: Callable[[Path], None]) -> Registry:
        folder = tmp_path / make.__name__
        if make is code_beside_pt2:
            shutil.copytree(mlflow.artifacts.download_artifacts(trained.model.uri), folder)
        else:
            folder.mkdir()
        make(folder)
        (folder / "extra_files").mkdir(exist_ok=True)
        (folder / "extra_files/state_dict.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
        registry, client = Registry(f"hostile-{make.__name__}-{tmp_path.name}"), MlflowClient()
        client.create_registered_model(registry.name)
        client.create_model_version(registry.name, str(folder))
        client.set_registered_model_alias(registry.name, "champion", "1")
        return registry

    return register


TRUSTING = f"""
import contextlib, mlflow, os, sys
for folder in sys.argv[1:]:
    with contextlib.suppress(Exception):
        mlflow.pyfunc.load_model(folder)
    if os.path.exists({PROOF!r}):
        os.remove({PROOF!r})
        print(os.path.basename(folder))
"""


def test_the_models_run_their_code_when_they_are_trusted(tmp_path: Path) -> None:
    """Else the others would prove nothing."""
    names = [make.__name__ for make in HOSTILE[:-1]]
    for name, make in zip(names, HOSTILE, strict=False):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    trusting = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
    command = [sys.executable, "-c", TRUSTING, *(str(tmp_path / name) for name in names)]
    assert subprocess.run(command, env=trusting, capture_output=True, text=True).stdout.split() == names


def test_a_hostile_champion_is_refused_wherever_it_would_be_loaded(register: Callable[..., Registry]) -> None:
    registries = [register(make) for make in HOSTILE]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(check_refused, registries))


def check_refused(registry: Registry) -> None:
    uri = registry.uri(1)
    with pytest.raises(ValueError, match="cannot be loaded from the plain weights"):  # to predict
        models.load_network(uri)
    served = Champion(f"models:/{registry.name}@champion")  # which goes on waiting for one that can be
    assert served.loaded is None
    assert "cannot be loaded from the plain weights" in str(served.last_error)
    with pytest.raises(ValueError, match="cannot be loaded in another process"):  # the gate's reload
        reload_check.reloaded_probabilities(uri, store.tracking_uri(), np.zeros((2, 28, 28), np.uint8))


def test_the_gate_does_not_compare_with_a_hostile_champion(
    register: Callable[..., Registry], trained: Trained, splits: Splits
) -> None:
    registry = register(loader_of_its_own)
    source = MlflowClient().get_model_version("mnist-mlp", str(trained.model.number))
    MlflowClient().create_model_version(registry.name, str(source.source), model_id=source.model_id)
    challenger = replace(trained.model, name=registry.name, number=2)
    with pytest.raises(ValueError, match="cannot be loaded from the plain weights"):
        decide.fn(challenger, splits.holdout, trained.holdout, Gate(), trained.run, reload_gap=0.0)
    assert registry.champion == 1


def test_a_hostile_checkpoint_is_not_resumed_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = pickle.dumps(Hostile())
    file = tmp_path / "x.checkpoint"
    file.write_bytes(hashlib.sha256(content).digest() + content)
    assert checkpoints.load(file) is None
    torch.save(Hostile(), file)
    content = file.read_bytes()
    file.write_bytes(hashlib.sha256(content).digest() + content)
    assert checkpoints.load(file) is None
    assert "is damaged" in caplog.text


def test_hostile_images_are_not_unpickled(files: Path, tmp_path: Path, project: Project) -> None:
    folder = shutil.copytree(files, tmp_path / "MNIST/raw")
    (tmp_path / "MNIST/processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save(Hostile(), tmp_path / "MNIST/processed" / name)
    with pytest.raises(Exception, match=r"[Ww]eights"):
        mnist.read("mnist", mnist.download(DataSource(data_dir=tmp_path)))
    assert folder.exists()
    np.save(project.root / "hostile.npy", np.array([Hostile()], dtype=object), allow_pickle=True)
    fails(project.start("flows/predict_flow.py", "hostile.npy"))
