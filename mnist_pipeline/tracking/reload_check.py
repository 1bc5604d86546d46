"""Load a registered model as any other program would: in a fresh process that cannot import this project.

Run as a program (`python -I reload_check.py MODEL_URI FOLDER`) it is that process.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FORBIDDEN = ("mnist_pipeline", "tasks", "flows", "prefect", "torchvision", "sklearn")


def reloaded_probabilities(model_uri: str, tracking_uri: str, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, classes) of uint8 `images` (N, H, W) that the model computes in a fresh process.

    Raises `ValueError` with the last line of that process's errors if it fails.
    """
    environment = {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", images)
        program = subprocess.run(
            [sys.executable, "-I", __file__, model_uri, folder],
            cwd=folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        if program.returncode:
            *_, last_line = ["it printed nothing", *program.stderr.strip().splitlines()]
            raise ValueError(f"{model_uri} cannot be loaded in another process: {last_line}")
        probabilities: np.ndarray = np.load(f"{folder}/probabilities.npy")
        return probabilities


def _predict(model_uri: str, folder: Path) -> None:
    sys.modules |= dict.fromkeys(FORBIDDEN)  # type: ignore[arg-type]  # importing one of them raises ImportError
    import mlflow

    flavours = mlflow.models.get_model_info(model_uri).flavors
    if flavours["python_function"]["loader_module"] != "mlflow.pytorch" or any(
        each.get("code") for each in flavours.values()
    ):
        raise ValueError("it contains code of its own, which is not run")
    model = mlflow.pyfunc.load_model(model_uri)
    np.save(folder / "probabilities.npy", model.predict(np.load(folder / "images.npy")))


if __name__ == "__main__":
    _predict(sys.argv[1], Path(sys.argv[2]))
