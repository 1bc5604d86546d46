"""The task that predicts, chunk by chunk."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline import batch_inference
from mnist_pipeline.data import readers
from mnist_pipeline.tracking import models

MAX_WARNINGS = 20  # unreadable images that the log lists one by one


@dataclass(frozen=True)
class Predicted:
    """What was predicted, and what could not be read."""

    model: str
    out: Path
    total: int  # predictions, without the unreadable
    counts: Mapping[str, int]  # of each class
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it


@task(name="predict", task_run_name="predict", cache_policy=NO_CACHE, log_prints=True)
def predict(images: Path, out: Path, *, model_uri: str, version: int) -> Predicted:
    """Predict `images` with a `version` of a model, and write the predictions to `out`."""
    model = models.load_network(model_uri)
    classes = model.schema.classes
    counts = np.zeros(len(classes), int)
    unreadable: dict[str, str] = {}
    last_log = time.monotonic()
    chunks = readers.chunks(images, model.schema)
    for chunk, probabilities in batch_inference.write(out, chunks, model, version=version, classes=classes):
        counts += np.bincount(probabilities.argmax(axis=1), minlength=len(classes))
        unreadable |= chunk.unreadable
        if time.monotonic() - last_log > 5:
            last_log = time.monotonic()
            print(f"{counts.sum():,} images so far")
    for name, problem in list(unreadable.items())[:MAX_WARNINGS]:
        get_run_logger().warning(f"Not read: {name}: {problem}")
    print(f"{counts.sum():,} images predicted, {len(unreadable):,} not read")
    by_class = dict(zip(classes, counts.tolist(), strict=True))
    return Predicted(model_uri, out, int(counts.sum()), by_class, unreadable)
