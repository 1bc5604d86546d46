"""The task that predicts, chunk by chunk."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline import batch_inference
from mnist_pipeline.config import check
from mnist_pipeline.data import readers
from mnist_pipeline.text import counted
from mnist_pipeline.tracking import models

UNSURE = "unsure"  # among the counts
MAX_WARNINGS = 20  # unreadable images that the log lists one by one


@dataclass(frozen=True)
class Predicted:
    """What was predicted, and what could not be read."""

    model: str
    out: Path
    total: int  # predictions, without the unreadable
    counts: Mapping[str, int]  # of each class, and of those without a label if there can be such
    unreadable: Mapping[str, str] = field(default_factory=dict)  # file → what is wrong with it
    left_out: Mapping[str, int] = field(default_factory=dict)  # what else → how many
    unclear: int = 0  # predictions with a warning


@task(name="predict", task_run_name="predict", cache_policy=NO_CACHE, log_prints=True)
def predict(
    images: Path,
    out: Path,
    *,
    model_uri: str,
    version: int,
    split: bool = False,
    explain: Path | None = None,
    min_confidence: float = 0.0,
) -> Predicted:
    """Predict `images` with a `version` of a model, and write the predictions to `out`."""
    check(not (out.exists() and out.samefile(images)), "out", out, "another file than the images are in")
    model = models.load_network(model_uri)
    check(
        not split or model.schema.preprocessing != "resized", "split", "given", "left out: the model is not of digits"
    )
    classes = model.schema.classes
    counts = np.zeros(len(classes) + 1, int)  # the last, of those without a label
    unreadable, left_out = dict[str, str](), Counter[str]()
    unclear, noun = 0, "digit" if split else "image"
    last_log = time.monotonic()
    chunks = readers.chunks(images, model.schema, split=split, explain=explain)
    written = batch_inference.write(
        out, chunks, model, version=version, classes=classes, split=split, min_confidence=min_confidence
    )
    for chunk, probabilities in written:
        unsure = batch_inference.unsure(chunk.images, probabilities, chunk.warnings, min_confidence)
        labels = np.where(unsure, len(classes), probabilities.argmax(axis=1))
        counts += np.bincount(labels, minlength=len(counts))
        unreadable |= chunk.unreadable
        left_out.update(chunk.left_out)
        unclear += sum(map(bool, batch_inference.warnings(chunk.warnings, probabilities)))
        if time.monotonic() - last_log > 5:
            last_log = time.monotonic()
            print(f"{counted(counts.sum(), noun)} so far")
    for name, problem in list(unreadable.items())[:MAX_WARNINGS]:
        get_run_logger().warning(f"Not read: {name}: {problem}")
    warned = f"{unclear:,} of them with a warning"
    print(f"{counted(counts.sum(), noun)} predicted, {warned}; {len(unreadable):,} not read")
    by_class = dict(zip(classes, counts.tolist(), strict=False))
    if min_confidence:
        by_class[UNSURE] = int(counts[-1])
    return Predicted(model_uri, out, int(counts.sum()), by_class, unreadable, left_out, unclear)
