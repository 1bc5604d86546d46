"""An image that was answered, and what people say that it was."""

import dataclasses
import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import numpy as np

Source = Literal["page", "picture", "array"]
Review = Literal["", "accepted", "rejected"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Served:
    """An answered image. Nothing is kept of who sent it."""

    id: str
    model: str
    version: int
    source: Source
    pixels: np.ndarray  # (height, width), uint8
    classes: tuple[str, ...]
    probabilities: np.ndarray  # (classes,), float32
    unsure: bool = False
    warning: str | None = None
    seconds: float = 0.0
    time: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    correct: str | None = None
    corrected: datetime | None = None
    review: Review = ""

    @property
    def label(self) -> str:
        return self.classes[int(self.probabilities.argmax())]

    @property
    def image_sha256(self) -> str:
        return hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()

    @property
    def confidence(self) -> float:
        return float(self.probabilities.max())


def once_an_image(corrections: Iterable[Served]) -> list[Served]:
    """Return the last correction of each image, by its pixels: a correction counts once, however often it was sent."""
    in_time = sorted(corrections, key=lambda each: each.corrected or each.time)
    return list({each.image_sha256: each for each in in_time}.values())


def contradicting(corrections: Sequence[Served]) -> list[Served]:
    """Return the corrections of images that are said to be of more than one class of a model."""
    labels: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    for each in corrections:
        labels[each.model, each.image_sha256].add(each.correct)
    return [each for each in corrections if len(labels[each.model, each.image_sha256]) > 1]


def to_row(served: Served) -> dict[str, object]:
    """Return the columns of the log that an answer fills."""
    height, width = served.pixels.shape
    return {
        "id": served.id,
        "time": time_text(served.time),
        "model": served.model,
        "version": served.version,
        "source": served.source,
        "height": height,
        "width": width,
        "pixels": served.pixels.tobytes(),
        "classes": json.dumps(served.classes),
        "probabilities": served.probabilities.astype("<f4", copy=False).tobytes(),
        "label": served.label,
        "confidence": served.confidence,
        "unsure": served.unsure,
        "warning": served.warning,
        "seconds": served.seconds,
    }


def from_row(row: sqlite3.Row) -> Served:
    """Return the answer in a row of the log. Raises `ValueError` or `TypeError` if the row is damaged."""
    corrected, classes = row["corrected"], _classes(row["classes"])
    if not row["pixels"] or not classes or len(row["probabilities"]) != 4 * len(classes):
        raise ValueError("no pixels, or other probabilities than classes")
    if row["correct"] not in (None, *classes):
        raise ValueError("a correction to no class of the model's")
    return Served(
        id=row["id"],
        model=row["model"],
        version=row["version"],
        source=row["source"],
        pixels=np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"]),
        classes=classes,
        probabilities=np.frombuffer(row["probabilities"], "<f4"),
        unsure=bool(row["unsure"]),
        warning=row["warning"],
        seconds=row["seconds"],
        time=datetime.fromisoformat(row["time"]),
        correct=row["correct"],
        corrected=datetime.fromisoformat(corrected) if corrected else None,
        review=row["review"],
    )


@lru_cache
def _classes(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def time_text(time: datetime) -> str:
    """Write a time as text that sorts by time."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")
