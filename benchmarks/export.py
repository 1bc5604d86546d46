"""Exports versions as ONNX: sizes, times, and accuracies of float32 and int8 on the holdout.

.venv/bin/python benchmarks/export.py models:/mnist-mlp@champion …
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from mnist_pipeline.tracking import models, onnx_model, store
from mnist_pipeline.tracking.export import export
from mnist_pipeline.tracking.registry import resolve


def main(uris: list[str]) -> None:
    store.prepare()
    print("| version | file | size, kB | holdout, % | largest difference | write, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for uri in uris:
        registry, version = resolve(uri)
        network = models.load_network(registry.uri(version))
        with tempfile.TemporaryDirectory() as folder:
            times = []
            for _ in range(3):  # the first with the exporter's imports
                start = time.perf_counter()
                onnx_model.write(network.mlp, network.schema, Path(folder) / "timed.onnx")
                times.append(time.perf_counter() - start)
            for int8 in (False, True):
                dataset = registry.name.removesuffix("-mlp")
                done = export(registry, version, Path(folder) / f"int8-{int8}", dataset=dataset, int8=int8)
                accuracy = f"{100 * done.accuracies[1].accuracy:.2f}" if done.accuracies else "–"
                seconds = f"{times[0]:.2f}, again {min(times[1:]):.2f}" if not int8 else ""
                row = (uri, done.file.name, f"{done.size / 1e3:,.0f}", accuracy, f"{done.gap:.1e}", seconds)
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    torch.set_num_threads(1)
    main(sys.argv[1:])
