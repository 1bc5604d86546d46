"""The plain weights beside a model: whether they are there, and whole."""

import tempfile
import zipfile
import zlib
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from mnist_pipeline.tracking.store import WEIGHTS, ignore_mlflow_errors


def check_has_model(version: ModelVersion) -> None:
    """Raise `ValueError` if the weights of the model that was registered as `version` are not there, or not whole."""
    folder, name = Path(WEIGHTS).parent, Path(WEIGHTS).name
    uri, files = f"models:/{version.name}/{version.version}/{folder}", []
    with ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST"):
        files = mlflow.artifacts.list_artifacts(artifact_uri=uri)
    if name not in (Path(file.path).name for file in files):
        raise ValueError(f"the files of version {version.version} of {version.name} are gone: it cannot be used")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(mlflow.artifacts.download_artifacts(f"{uri}/{name}", dst_path=temporary))
        check_weights(file, f"version {version.version} of {version.name}")


def check_weights(file: Path, model: str) -> None:
    """Raise `ValueError` if the plain weights of `model` in `file`, which torch saves as a zip archive, are damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        damaged = str(error)
    if damaged:
        raise ValueError(f"{model} cannot be used: its weights, {WEIGHTS}, are damaged ({damaged}): restore them")
