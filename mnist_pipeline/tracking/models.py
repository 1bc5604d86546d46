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
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.model import MLP, Classifier

WEIGHTS = "extra_files/state_dict.pt"  # beside each model: its plain weights


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
    return str(info.model_uri)


def load_network(uri: str) -> Classifier:
    """Load a registered model: it maps uint8 images (N, H, W) to probabilities (N, classes).

    It is built from the plain weights beside the model, in a tenth of a second, as torch.export is not imported.
    Nothing that came with the model is run, neither pickle nor code. Raises `ValueError` if that is not possible.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = mlflow.artifacts.download_artifacts(f"{uri}/{WEIGHTS}", dst_path=folder)
            mlp = MLP.from_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
        fields = mlflow.models.get_model_info(uri).metadata
        return Classifier(mlp, Schema.from_json(fields) if fields else Schema()).eval().requires_grad_(False)
    except (MlflowException, OSError, pickle.UnpicklingError, RuntimeError, LookupError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{uri} cannot be loaded from the plain weights beside it, {WEIGHTS}: {reason}") from None


@contextlib.contextmanager
def _skip_requirements_check() -> Iterator[None]:
    """Let MLflow log the requirements as given: they name the versions that are installed.

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
