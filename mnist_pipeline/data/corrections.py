"""Corrections of labels: a table that `inspect_flow.py` writes and its reader edits, applied to a dataset."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mnist_pipeline.config import FieldError
from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.spreadsheet import meant, rows_of
from mnist_pipeline.text import counted, listed

REMOVE = "remove"  # in place of a label; so does none


@dataclass(frozen=True)
class Relabelled:
    """How many labels and images a file of corrections changed."""

    file: Path
    changed: int
    removed: int

    def __str__(self) -> str:
        changes = f"{counted(self.changed, 'label')} changed and {counted(self.removed, 'image')} removed"
        return f"{changes} by {self.file.name}"


def relabel(
    file: Path, parts: Mapping[str, LabelledImages], classes: Sequence[str]
) -> tuple[dict[str, LabelledImages], Relabelled]:
    """Apply the corrections in `file` to the images in `parts`, a row for each image that it names.

    An image in the part `holdout` is changed only if its row's `set` says so: what two versions are compared on is not
    to be corrected along with what they learn from. Raises `FieldError`, with the row's number, if one makes no sense.
    """
    places = {
        name: (part, row) for part, raw in parts.items() for row, name in enumerate(np.asarray(raw.names).tolist())
    }
    places = {unicodedata.normalize("NFC", name): place for name, place in places.items()} | places
    labels = {part: raw.labels.copy() for part, raw in parts.items()}
    seen: dict[tuple[str, int], int] = {}
    for where, name, given_set, label in rows(file):
        place = places.get(name, places.get(unicodedata.normalize("NFC", name)))
        if not place:
            raise FieldError("relabel", f"{where}: there is no image {name} in the data")
        new = _class(label, classes)
        if new is None:
            known = listed(classes, most=20)
            raise FieldError("relabel", f"{where}: {label} is not a class: they are {known}, or {REMOVE}")
        if seen.setdefault(place, new) != new:
            raise FieldError("relabel", f"{where}: {name} has another label in a row above")
        part, row = place
        if part == "holdout" and given_set.lower() != part and new != labels[part][row]:
            raise FieldError("relabel", f"{where}: {name} is in the holdout: its set must say holdout to change that")
        labels[part][row] = new
    changed = sum(int(((labels[part] >= 0) & (labels[part] != raw.labels)).sum()) for part, raw in parts.items())
    removed = sum(int((each < 0).sum()) for each in labels.values())
    for part, left in labels.items():
        if len(left) and (left < 0).all():
            raise FieldError("relabel", f"{file.name} removes all {len(left):,} images of {part}")
    kept = {part: replace(raw, labels=labels[part])[np.flatnonzero(labels[part] >= 0)] for part, raw in parts.items()}
    return kept, Relabelled(file, changed, removed)


def _class(label: str, classes: Sequence[str]) -> int | None:
    """Return the number of the class that a cell names, -1 for one that removes the image, and none for any other."""
    if label not in classes and label.lower() in ("", REMOVE):
        return -1
    name = meant(label, classes)
    return None if name is None else classes.index(name)


def rows(file: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield where each row of `file` is, its file, set and label."""
    try:
        for where, row in rows_of(file, "file", "label"):
            if "file" not in row or "label" not in row:
                raise ValueError(f"{where}: is cut off before its label: leave that empty, or write {REMOVE}")
            if row["file"] or row["label"]:
                yield where, row["file"], row.get("set", ""), row["label"]
    except ValueError as error:
        raise FieldError("relabel", str(error)) from None
