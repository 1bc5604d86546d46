"""The task that predicts, chunk by chunk."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline import inference, inputs, tracking

SPOKEN_OF = 20  # unreadable images that the log names one by one


@dataclass(frozen=True)
class Predicted:
    """What was predicted, and what could not be."""

    model: str
    out: Path
    total: int  # predictions, without the unreadable
    counts: Mapping[str, int]  # of each class
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it


@task(name="predict", task_run_name="predict", cache_policy=NO_CACHE, log_prints=True)
def predict(images: Path, out: Path, *, model_uri: str, version: int) -> Predicted:
    """Predict `images` with a `version` of a model, write the predictions to `out`, and say how far it has come."""
    model = tracking.load_network(model_uri)
    schema = model.schema
    classes = len(schema.classes)
    counts = np.zeros(classes, int)
    unreadable: dict[str, str] = {}
    said = time.monotonic()
    chunks = inputs.chunks(images, schema)
    for chunk, probabilities in inference.write(out, chunks, model, version=version, classes=schema.classes):
        counts += np.bincount(probabilities.argmax(axis=1), minlength=classes)
        unreadable |= chunk.unreadable
        if time.monotonic() - said > 5:
            said = time.monotonic()
            print(f"{counts.sum():,} images so far")
    for name, reason in list(unreadable.items())[:SPOKEN_OF]:
        get_run_logger().warning(f"Not read: {name}: {reason}")
    print(f"{counts.sum():,} images predicted, {len(unreadable):,} not read")
    by_class = dict(zip(schema.classes, counts.tolist(), strict=True))
    return Predicted(model_uri, out, int(counts.sum()), by_class, unreadable)
