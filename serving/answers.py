"""From the body of a request to the answer, and into the log."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mnist_pipeline import batch_inference
from mnist_pipeline.data.pictures.preprocessing import Reading
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.monitoring.served import Served, Source
from serving.champion import Loaded
from serving.log import LogWriter
from serving.metrics import Metrics


@dataclass(frozen=True)
class Asked:
    """What a request wants to know beside the label, and whether the answer may be kept."""

    source: Source
    probabilities: bool
    seen: bool
    log: bool


@dataclass(frozen=True)
class Answers:
    """How a server answers: when it says that it does not know, and where it keeps its answers."""

    min_confidence: float
    log: LogWriter | None
    metrics: Metrics

    def answer(
        self, loaded: Loaded, read: Callable[[bytes, Schema], Reading | np.ndarray], body: bytes, asked: Asked
    ) -> dict[str, Any]:
        """Read the images in `body`, and predict them with the version that is `loaded`."""
        begun = time.perf_counter()
        classes = loaded.network.schema.classes
        content = read(body, loaded.network.schema)
        pixels, of_picture = (content.pixels, [content.warning]) if isinstance(content, Reading) else (content, [])
        with torch.inference_mode():
            probabilities = loaded.network(torch.from_numpy(pixels)).numpy()
        warnings = batch_inference.warnings(of_picture, probabilities)
        unsure = batch_inference.unsure(pixels, probabilities, of_picture, self.min_confidence)
        seconds = time.perf_counter() - begun  # of each image, as its answer comes with those of the others
        served = [
            Served(
                id=uuid.uuid4().hex,
                model=loaded.name,
                version=loaded.version,
                source=asked.source,
                pixels=image,
                classes=classes,
                probabilities=row,
                unsure=bool(is_unsure),
                warning=warning,
                seconds=seconds,
            )
            for image, row, is_unsure, warning in zip(pixels, probabilities, unsure, warnings, strict=True)
        ]
        kept = bool(self.log and asked.log and self.log.append(served))
        self.metrics.predicted(loaded.version, [each.label for each in served], int(unsure.sum()))
        predictions = [_prediction(each, asked, kept=kept) for each in served]
        if isinstance(content, Reading):
            predictions[0]["warning"] = warnings[0]  # why it is unclear
        return {"model": loaded.name, "model_version": loaded.version, "predictions": predictions}


def _prediction(served: Served, asked: Asked, *, kept: bool) -> dict[str, Any]:
    prediction: dict[str, Any] = {"id": served.id} if kept else {}
    prediction |= {"label": None if served.unsure else served.label, "confidence": served.confidence}
    if asked.probabilities or served.unsure:
        prediction["probabilities"] = served.probabilities.tolist()
    if asked.seen and asked.source != "array":
        prediction["seen"] = served.pixels.tolist()  # the network's input
    return prediction
