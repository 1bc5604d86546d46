"""Labels that look wrong: found by confident learning, listed in a table to edit, and drawn on a sheet."""

import contextlib
import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mnist_pipeline.contact_sheet import contact_sheet
from mnist_pipeline.data import corrections
from mnist_pipeline.data.splits import Examples
from mnist_pipeline.text import percent, spreadsheet_text

COLUMNS, PANEL = 5, 200  # images in a row, pixels of each
MAX_DRAWN = 20


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label looks wrong."""

    row: int  # of the examples
    file: str
    set: str
    label: str  # as given
    likely: str
    confidence: float  # in `likely`


def find(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows whose `labels` (N,) look wrong, the worst first, and the class that each is likely to be of.

    Confident learning (Northcutt, Jiang and Chuang, 2021, "Confident Learning: Estimating Uncertainty in Dataset
    Labels"): an image is confidently of a class if its probability, from a network that has not seen it, is at least
    the mean of those that have the label. As many labels are suspected as there are images confidently, and most
    likely, of another class; suspected are those that their labels are the least likely for.
    """
    given = probabilities[np.arange(len(labels)), labels]
    sums, counts = (np.bincount(labels, weights, minlength=probabilities.shape[1]) for weights in (given, None))
    thresholds = np.divide(sums, counts, out=np.full(len(sums), np.inf), where=counts > 0)
    confident = np.where(probabilities >= thresholds - 1e-6, probabilities, -1)
    is_other = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != labels)
    count = int((is_other & (probabilities.argmax(axis=1) != labels)).sum())
    rows = np.argsort(given, kind="stable")[:count]
    others = probabilities[rows]
    others[np.arange(count), labels[rows]] = -1
    return rows, others.argmax(axis=1)


def describe(part: Examples, probabilities: np.ndarray, classes: Sequence[str], *, train: int) -> list[LabelIssue]:
    """Return the issues among `part`, of which the first `train` images are the training split's, the others test's."""
    labels = part.labels.numpy()
    rows, likely = find(labels, probabilities)
    assert part.names is not None
    return [
        LabelIssue(
            row,
            str(part.names[row]),
            "train" if row < train else "test",
            classes[labels[row]],
            classes[other],
            round(float(probabilities[row, other]), 4),
        )
        for row, other in zip(rows.tolist(), likely.tolist(), strict=True)
    ]


def write_csv(issues: Sequence[LabelIssue], file: Path, *, earlier: Path | None = None) -> None:
    """Write `issues` as a table that a spreadsheet opens: its column `label` is there to be edited.

    After them come the other rows of an `earlier` table, so that this one takes its place.
    """
    with file.open("x", encoding="utf-8-sig", newline="") as opened:  # with its mark, or Excel would not see the UTF-8
        writer = csv.writer(opened)
        writer.writerow(["file", "set", "label", "likely", "confidence"])
        for each in issues:
            texts = map(spreadsheet_text, (each.file, each.set, each.label, each.likely))
            writer.writerow([*texts, f"{each.confidence:.4f}"])
        listed = {unicodedata.normalize("NFC", each.file) for each in issues}
        for _, name, given_set, label in corrections.rows(earlier) if earlier else ():
            if unicodedata.normalize("NFC", name) not in listed:
                writer.writerow([*map(spreadsheet_text, (name, given_set, label)), "", ""])


def draw_sheet(issues: Sequence[LabelIssue], part: Examples, folder: Path, file: Path) -> None:
    """Draw the first twenty of the images, from their files in `folder` where there are such, each over its labels."""
    issues = issues[:MAX_DRAWN]
    pictures = [_picture(folder / issue.file, part.pixels[issue.row].numpy()) for issue in issues]
    captions = [
        (issue.file[-28:], f"given: {issue.label}", f"likely: {issue.likely[:16]} ({percent(issue.confidence, 1)})")
        for issue in issues
    ]
    contact_sheet(pictures, captions, panel=PANEL, columns=COLUMNS).save(file)


def _picture(file: Path, pixels: np.ndarray) -> Image.Image:
    """Return the picture in `file`, or if it is none the `pixels` (H, W) that were read."""
    with contextlib.suppress(Exception), Image.open(file) as image:  # it was read before
        image.draft(None, (PANEL, PANEL))
        return ImageOps.exif_transpose(image).convert("RGB")
    return Image.fromarray(pixels)
