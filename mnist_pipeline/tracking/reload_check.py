"""Load a registered model as any other program would: in a fresh process that cannot import this project.

Run as a program (`python -I reload_check.py MODEL FOLDER`) it is that process.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FORBIDDEN = ("mnist_pipeline", "tasks", "flows", "prefect", "torchvision", "sklearn")
NOT_FOR_ONNX = ("torch", "mlflow", "onnx")
MAX_SECONDS = 600  # a model that takes longer for the holdout is no use to anyone
MAX_MEMORY = 8 * 2**30  # bytes that an ONNX model may take: a small file can ask for any number


def reloaded_probabilities(model: str, tracking_uri: str, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, classes) of uint8 `images` (N, H, W) that the model computes in a fresh process.

    `model` is a registered model's URI, or the path of an ONNX file, for which that process has onnxruntime alone.
    Raises `ValueError` with the last line of that process's errors if it fails.
    """
    environment = {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", images)
        try:
            program = subprocess.run(
                [sys.executable, "-I", __file__, model, folder],
                cwd=folder,
                env=os.environ | environment,
                capture_output=True,
                text=True,
                timeout=MAX_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"{model} cannot be used: it took more than {MAX_SECONDS} s") from None
        if program.returncode:
            *_, last_line = [f"it ended with {program.returncode}", *program.stderr.strip().splitlines()]
            raise ValueError(f"{model} cannot be loaded in another process: {last_line}")
        probabilities: np.ndarray = np.load(f"{folder}/probabilities.npy")
        return probabilities


def _predict(model_uri: str, images: np.ndarray) -> np.ndarray:
    import mlflow

    flavours = mlflow.models.get_model_info(model_uri).flavors
    if flavours["python_function"]["loader_module"] != "mlflow.pytorch" or any(
        each.get("code") for each in flavours.values()
    ):
        raise ValueError("it contains code of its own, which is not run")
    probabilities: np.ndarray = mlflow.pyfunc.load_model(model_uri).predict(images)
    return probabilities


def _predict_with_onnx(file: str, images: np.ndarray) -> np.ndarray:
    import resource

    with contextlib.suppress(ValueError, OSError):  # a system without such a limit
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    sys.modules |= dict.fromkeys(NOT_FOR_ONNX)  # type: ignore[arg-type]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    chunks = [session.run(None, {name: images[at : at + 1000]})[0] for at in range(0, len(images), 1000)]
    return np.concatenate(chunks)


if __name__ == "__main__":
    sys.modules |= dict.fromkeys(FORBIDDEN)  # type: ignore[arg-type]  # importing one of them raises ImportError
    model, folder = sys.argv[1], Path(sys.argv[2])
    predict = _predict_with_onnx if model.endswith(".onnx") else _predict
    np.save(folder / "probabilities.npy", predict(model, np.load(folder / "images.npy")))
