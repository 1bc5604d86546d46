"""Predicts a million images in an IDX file with the champion: how fast, and in how much memory.

.venv/bin/python benchmarks/predict.py          the library's loop, then the whole command
"""

import gzip
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mnist_pipeline import batch_inference
from mnist_pipeline.config import CHAMPION, ROOT
from mnist_pipeline.data import readers
from mnist_pipeline.data.mnist import BUNDLED
from mnist_pipeline.tracking import registry, store
from mnist_pipeline.tracking.models import load_network

IMAGES = 1_000_000


def write_idx(path: Path) -> None:
    """Write the holdout's 10,000 images over and over."""
    holdout = gzip.decompress((BUNDLED / "t10k-images-idx3-ubyte.gz").read_bytes())
    with path.open("wb") as file:
        file.write(holdout[:4] + IMAGES.to_bytes(4) + holdout[8:16])
        for _ in range(IMAGES // 10_000):
            file.write(holdout[16:])


def library(source: Path, out: Path) -> None:
    store.prepare()
    versions, version = registry.resolve(CHAMPION)
    model = load_network(versions.uri(version))
    seconds = 0.0

    def timed(images: torch.Tensor) -> torch.Tensor:
        nonlocal seconds
        start = time.perf_counter()
        probabilities: torch.Tensor = model(images)
        seconds += time.perf_counter() - start
        return probabilities

    model(torch.from_numpy(np.zeros((2, 28, 28), np.uint8)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    for _ in batch_inference.write(out, readers.chunks(source), timed, version=version):
        pass
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"inference   {IMAGES / seconds:,.0f} images/s, on one thread")
    print(f"{out.suffix.removeprefix('.'):11} {IMAGES / whole:,.0f} images/s with reading and writing ({whole:.1f} s)")
    print(f"peak memory {peak:,.0f} MiB, of which {before:,.0f} before the first image")


def command(source: Path, out: Path) -> None:
    start = time.perf_counter()
    words = [sys.executable, str(ROOT / "flows" / "predict_flow.py"), str(source), "--out", str(out)]
    subprocess.run(words, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"command     {seconds:.1f} s from Enter to prompt, its largest process {peak:,.0f} MiB")


if __name__ == "__main__":
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        idx = Path(folder) / "images-idx3-ubyte"
        write_idx(idx)
        library(idx, Path(folder) / "predictions.parquet")
        library(idx, Path(folder) / "predictions.csv")
        command(idx, Path(folder) / "predictions.parquet")
