"""Corrections of what was served: a contact sheet, a CSV file to be filled in, and images to learn from."""

import contextlib
import csv
import filecmp
import hashlib
import io
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_pipeline.config import ROOT
from mnist_pipeline.contact_sheet import contact_sheet
from mnist_pipeline.monitoring.served import Review, Served
from mnist_pipeline.spreadsheet import rows_of
from mnist_pipeline.text import from_spreadsheet, spreadsheet_text

logger = logging.getLogger(__name__)

COLUMNS, PANEL = 10, 84  # images in a row, pixels of each
FIELDS = ("number", "id", "time", "model", "version", "source", "predicted", "confidence", "correct", "image", "review")
SHEET, TABLE = "corrections.png", "corrections.csv"
APPLIED = ".applied"  # in place of a table's ending: the hash of what was carried out
ANSWERS: dict[str, Review] = {
    "": "",
    "accept": "accepted",
    "accepted": "accepted",
    "reject": "rejected",
    "rejected": "rejected",
}


def write(folder: Path, corrections: Sequence[Served]) -> tuple[Path, Path]:
    """Write `corrections.png`, with each image over its number and `correct, not predicted`, and `corrections.csv`.

    Its last column, `review`, is to be filled in with accept or reject. Returns both files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheet, table, drawn, text = folder / SHEET, folder / TABLE, io.BytesIO(), io.StringIO(newline="")
    pictures = [Image.fromarray(each.pixels) for each in corrections]
    captions = [
        (str(number), f"{each.correct}, {'confirmed' if each.correct == each.label else f'not {each.label}'}")
        for number, each in enumerate(corrections, start=1)
    ]
    contact_sheet(pictures, captions, panel=PANEL, columns=COLUMNS).save(drawn, "PNG")
    writer = csv.writer(text)
    writer.writerow(FIELDS)
    for number, each in enumerate(corrections, start=1):
        time = each.time.isoformat(timespec="seconds")
        words = (each.id, time, each.model, str(each.version), each.source, each.label, f"{each.confidence:.4f}")
        row = (str(number), *words, each.correct or "", each.image_sha256, each.review)
        writer.writerow(map(spreadsheet_text, row))
    for file, content in ((sheet, drawn.getvalue()), (table, text.getvalue().encode())):
        partial = file.with_name(f".{file.name}.partial")
        try:
            partial.write_bytes(content)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    return sheet, table


def read(table: Path) -> dict[str, tuple[Review, str]]:
    """Read the decisions in a CSV file that `write` wrote: the images' ids, what was decided, and of which label.

    Raises `ValueError` if it is not such a file.
    """
    decisions: dict[str, tuple[Review, str]] = {}
    for where, row in rows_of(table, "id", "correct", "review"):
        word, answer = row.get("review", "").lower(), row.get("id", "")
        if not answer:
            raise ValueError(f"{where}: has no id, so that nobody can tell which image it is about")
        if word not in ANSWERS:
            raise ValueError(f"{where}: a review must be accept, reject or nothing, not {word:.40}")
        if answer in decisions:
            raise ValueError(f"{where}: {answer:.40} has a row above already")
        decisions[answer] = (ANSWERS[word], row.get("correct", ""))
    return decisions


def mark_applied(table: Path) -> None:
    """Note beside `table` that what it says now was carried out."""
    with contextlib.suppress(OSError):  # it may be on a disk that is only read
        table.with_suffix(APPLIED).write_text(_sha256(table))


def was_applied(table: Path) -> bool:
    """Return whether what `table` says was carried out, and nobody has changed it since."""
    note = table.with_suffix(APPLIED)
    return note.is_file() and note.read_text() == _sha256(table)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def learnt(table: str) -> frozenset[tuple[str, str]]:
    """Return the images, by their hashes, and the labels in the text of a table that `write` wrote."""
    rows = csv.DictReader(table.splitlines())
    return frozenset((row["image"], from_spreadsheet(row["correct"])) for row in rows)


def write_extra(corrections: Sequence[Served], *, home: Path = ROOT) -> Path:
    """Write corrections as more training images, in MNIST's format and with their table; return the folder.

    It is named by what is in it, so that the same corrections are the same data, and appears whole or not at all. One
    that someone has changed since is written anew.
    """
    first = corrections[0]
    content = "".join(f"{each.image_sha256}{each.correct}" for each in corrections)
    name = f"corrections-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    folder = home / "corrections" / first.model / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
        new = Path(temporary) / name
        write(new, corrections)
        pixels = np.stack([each.pixels for each in corrections])
        labels = np.array([first.classes.index(each.correct or "") for each in corrections], ">i4")
        for kind, array, dtype in (("images-idx3", pixels, 0x08), ("labels-idx1", labels, 0x0C)):
            sizes = b"".join(length.to_bytes(4) for length in array.shape)
            (new / f"train-{kind}-ubyte").write_bytes(bytes((0, 0, dtype, array.ndim)) + sizes + array.tobytes())
        (new / "classes.txt").write_text("\n".join(first.classes) + "\n")
        if folder.is_dir():
            names = [file.name for file in new.iterdir() if file.name not in (SHEET, TABLE)]  # which name answers
            if filecmp.cmpfiles(new, folder, names, shallow=False)[0] == names:
                return folder
            logger.warning(f"{folder} is not as it was written, and is written anew")
            shutil.rmtree(folder)
        try:
            new.rename(folder)
        except OSError:  # another process was quicker
            if not folder.is_dir():
                raise
    return folder
