"""What a run logged, read back."""

import json
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from mnist_pipeline.data import manifest
from mnist_pipeline.data.drift import Profile

PROFILE = "data_profile.json"  # what the training data looked like
MANIFEST = "manifest.parquet"  # which images were used, and for what


def load_text(run_id: str, name: str) -> str:
    """Return a text that a run logged, nothing if it did not."""
    try:
        return str(mlflow.artifacts.load_text(f"runs:/{run_id}/{name}"))
    except MlflowException:
        return ""


def load_table(run_id: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table that a run logged, none if it did not."""
    table = json.loads(load_text(run_id, f"{name}.json") or '{"data": []}')
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def load_profile(run_id: str) -> Profile | None:
    """Return the profile of the data that a run trained on, if it logged one."""
    text = load_text(run_id, PROFILE)
    return Profile.from_json(json.loads(text)) if text else None


def load_training_hashes(run_id: str) -> frozenset[str]:
    """Return the SHA-256 of each image that a run trained on, as far as it logged them: a named dataset's are not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{MANIFEST}", dst_path=folder)
        except (MlflowException, OSError):
            return frozenset()
        return manifest.training_hashes(Path(file))
