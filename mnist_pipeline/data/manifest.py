"""The manifest of a training: which images it used, and for what."""

import hashlib
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from mnist_pipeline.data.splits import Examples, Splits


def write(splits: Splits, file: Path) -> None:
    """Write a Parquet table with a row for each image: its file, its set, its label and the SHA-256 of its pixels.

    A named dataset's have no hash, which would take longer than all else: its files are verified by theirs.
    """
    columns: dict[str, list[pa.Array]] = {"file": [], "set": [], "label": [], "sha256": []}
    classes = pa.array(splits.schema.classes)
    for name, part in splits.named().items():
        hashes = None if splits.source.is_named else image_hashes(part)
        columns["file"].append(pa.array(part.names))
        columns["set"].append(pa.repeat(name, len(part)))
        columns["label"].append(classes.take(pa.array(part.labels.numpy())))
        columns["sha256"].append(pa.array(hashes, pa.string()) if hashes else pa.nulls(len(part), pa.string()))
    parquet.write_table(pa.table({name: pa.chunked_array(arrays) for name, arrays in columns.items()}), file)


def training_hashes(file: Path) -> frozenset[str]:
    """Return the SHA-256 of each image of the training split, as far as the manifest `file` has them."""
    table = parquet.read_table(file, columns=["set", "sha256"]).to_pylist()
    return frozenset(row["sha256"] for row in table if row["set"] == "train" and row["sha256"])


def image_hashes(part: Examples) -> list[str]:
    """Return the SHA-256 of the pixels of each image."""
    return [hashlib.sha256(image).hexdigest() for image in part.pixels.numpy()]
