"""Models: logged to a run in the pt2 format, and loaded from their plain weights."""

import contextlib
import pickle
import tempfile
from collections.abc import Iterator
from importlib.metadata import version as version_of
from pathlib import Path

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from mlflow import types
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import TensorSpec
from mlflow.utils import requirements_utils

from mnist_pipeline.data.schema import Schema
from mnist_pipeline.tracking import once, onnx_model
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.tracking.store import WEIGHTS, client, logged_model_id
from mnist_pipeline.training.model import MLP, Classifier


def log_model(run: Run, mlp: MLP, pixels: torch.Tensor, *, step: int, schema: Schema = Schema()) -> str:
    """Log the classifier around `mlp` in the pt2 format, which contains no pickle; return the model's URI.

    `pixels` are a few uint8 images (N ≥ 2, H, W), the input example. The plain weights are logged beside the model, and
    the schema in its metadata.
    """
    classifier = Classifier(mlp).eval()
    probabilities = classifier(pixels)
    signature = ModelSignature(
        inputs=types.Schema([TensorSpec(np.dtype(np.uint8), (-1, *pixels.shape[1:]))]),
        outputs=types.Schema([TensorSpec(np.dtype(np.float32), (-1, *probabilities.shape[1:]))]),
    )
    reloaded = Classifier(MLP.from_state_dict(mlp.state_dict()))
    assert torch.equal(reloaded(pixels), probabilities)  # what `load_network` builds is what is registered
    mlflow.set_experiment(experiment_id=run.experiment_id)  # as Model.log has no parameter for it
    with tempfile.TemporaryDirectory() as folder, _skip_requirements_check():
        state_dict = Path(folder) / Path(WEIGHTS).name
        torch.save(mlp.state_dict(), state_dict)
        info = Model.log(  # as mlflow.pytorch.log_model has no run_id
            artifact_path=None,
            name="model",
            flavor=mlflow.pytorch,
            run_id=run.id,
            step=step,
            model_type="classifier",
            pytorch_model=classifier,
            serialization_format="pt2",
            signature=signature,
            metadata=schema.to_json(),
            input_example=pixels.numpy(),
            extra_files=[str(state_dict)],
            pip_requirements=[f"{package}=={version_of(package)}" for package in ("torch", "mlflow", "numpy")],
        )
    once.delete_unfinished_models(run.experiment_id, run.id)
    return str(info.model_uri)


def load_network(uri: str) -> Classifier:
    """Load a registered model: it maps uint8 images (N, H, W) to probabilities (N, classes).

    It is built from the plain weights beside the model, in a tenth of a second, as torch.export is not imported.
    Nothing that came with the model is run, neither pickle nor code. Raises `ValueError` if that is not possible, or,
    then as later, if its probabilities are not finite.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = mlflow.artifacts.download_artifacts(f"{uri}/{WEIGHTS}", dst_path=folder)
            mlp = MLP.from_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
        fields = mlflow.models.get_model_info(uri).metadata
        schema = Schema.from_json(fields) if fields else Schema()
        network = Classifier(mlp, schema).eval().requires_grad_(False)
        black = torch.zeros((1, schema.height, schema.width), dtype=torch.uint8)
        probabilities = network(torch.cat([black, 255 - black]))  # also as the first call is slow
        if probabilities.shape[1] != len(schema.classes):
            raise LookupError(f"it has {probabilities.shape[1]} outputs for {len(schema.classes)} classes")
    except (MlflowException, OSError, pickle.UnpicklingError, RuntimeError, LookupError) as error:
        *_, reason = [type(error).__name__, *filter(None, map(str.strip, str(error).splitlines()))]
        raise ValueError(f"{uri} cannot be loaded from the plain weights beside it, {WEIGHTS}: {reason}") from None

    def check_finite(_network: object, _images: object, probabilities: torch.Tensor) -> None:
        if not probabilities.isfinite().all():
            raise ValueError(f"{uri} cannot be used: its probabilities are not finite numbers")

    check_finite(network, None, probabilities)
    network.register_forward_hook(check_finite)
    return network


def onnx_file(name: str, version: int, folder: Path) -> Path:
    """Make a version's ONNX file in `folder`, and keep it beside the model, for other programs.

    It is made from the plain weights each time: another file in its place is not trusted, whatever it answers. Raises
    `ValueError` if that one is hostile, or the weights cannot be loaded.
    """
    uri = f"models:/{name}/{version}"
    model_id = logged_model_id(client().get_model_version(name, str(version)))
    network = load_network(uri)
    logged = client().list_logged_model_artifacts(model_id) if model_id else []
    is_there = any(each.path == onnx_model.FILE for each in logged)
    kept = _kept_onnx(uri, network.schema) if is_there else None
    file = folder / onnx_model.FILE
    onnx_model.write(network.mlp, network.schema, file, model=name, version=str(version))
    onnx_model.check(file)
    if model_id and kept != file.read_bytes():
        client().log_model_artifact(model_id, str(file))
    return file


def _kept_onnx(uri: str, schema: Schema) -> bytes:
    """Return the ONNX file beside a model. Raises `ValueError` if it is hostile, or of other images than the model."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = Path(mlflow.artifacts.download_artifacts(f"{uri}/{onnx_model.FILE}", dst_path=folder))
            content = file.read_bytes()
        except (MlflowException, OSError) as error:
            raise ValueError(f"{uri}/{onnx_model.FILE} is refused: it cannot be read ({error})") from None
        if onnx_model.check(file) != schema:
            raise ValueError(f"{uri}/{onnx_model.FILE} is refused: it is of other classes or images than its model")
        return content


@contextlib.contextmanager
def _skip_requirements_check() -> Iterator[None]:
    """Make MLflow log the requirements as given: they name the versions that are installed.

    MLflow would spend a second, a twentieth of a training command, on a map of all installed modules to check them.
    There is no public way to say so; a test fails when this one has no effect any more.
    """
    cache = vars(requirements_utils)
    before = cache.get("_MODULES_TO_PACKAGES")
    cache["_MODULES_TO_PACKAGES"] = {}
    try:
        yield
    finally:
        cache["_MODULES_TO_PACKAGES"] = before
