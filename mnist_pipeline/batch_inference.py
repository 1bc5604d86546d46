"""Predictions for images, chunk by chunk, in a Parquet or CSV file that appears only once it is complete."""

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from pyarrow import csv, parquet

from mnist_pipeline.config import check_predictions_file
from mnist_pipeline.data.readers import Chunk
from mnist_pipeline.data.schema import DIGITS
from mnist_pipeline.text import spreadsheet_text
from mnist_pipeline.training.loop import torch_threads

Model = Callable[[torch.Tensor], torch.Tensor]  # uint8 images (N, H, W) → probabilities (N, classes)
BATCH_SIZE = 2048  # images that fit into a core's cache
LIKELY = 0.5  # a picture is unclear if none of its classes has so high a probability
WRITERS = {".parquet": parquet.ParquetWriter, ".csv": csv.CSVWriter}


def predict(model: Model, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, classes) of uint8 `images` (N, H, W), in order."""
    with torch.inference_mode(), torch_threads(1):  # more hurt on a busy machine
        return torch.cat([model(batch) for batch in torch.from_numpy(images).split(BATCH_SIZE)]).numpy()


def warnings(of_pictures: Sequence[str], probabilities: np.ndarray) -> list[str | None]:
    """Return why each picture is unclear, to its reader or to the model; nothing of images that are no pictures."""
    if not of_pictures:
        return [None] * len(probabilities)
    of_model = ["no class is likely" if best < LIKELY else None for best in probabilities.max(axis=1, initial=0)]
    return [of_picture or other for of_picture, other in zip(of_pictures, of_model, strict=True)]


def unsure(
    images: np.ndarray, probabilities: np.ndarray, of_pictures: Sequence[str], min_confidence: float
) -> np.ndarray:
    """Return which of `images` (N, H, W) are not to be given a label: (N,), bool; none without a `min_confidence`.

    They are those whose likeliest class is less likely, that are blank, or that their reader found unclear.
    """
    if not min_confidence:
        return np.zeros(len(images), bool)
    blank = images.min(axis=(1, 2), initial=255) == images.max(axis=(1, 2), initial=0)
    unclear = np.array([bool(each) for each in of_pictures] or [False] * len(images), bool)
    found: np.ndarray = blank | unclear | (probabilities.max(axis=1, initial=0) < min_confidence)
    return found


def write(
    out: Path,
    chunks: Iterable[Chunk],
    model: Model,
    *,
    version: int,
    classes: Sequence[str] = DIGITS,
    split: bool = False,
    min_confidence: float = 0.0,
) -> Iterator[tuple[Chunk, np.ndarray]]:
    """Predict `chunks` with `model`, the given `version` of a registered model, and write the predictions to `out`.

    With `split`, the digits of a picture are rows one after another, each with the number that they make. What is
    `unsure` below `min_confidence` has no prediction, and a row with such a digit no number.

    Yields each chunk and its probabilities once they are written. `out` is replaced only at the end, when the new file
    is complete. Raises `FieldError` if `out` cannot be written, and `ValueError` if no image can be read.
    """
    out = out.resolve()  # a link stays one
    check_predictions_file(out)
    partial = out.with_name(f".{secrets.token_hex(8)}.partial")  # another prediction may be writing to the same file
    text = spreadsheet_text if out.suffix.lower() == ".csv" else str
    written, unreadable = 0, dict[str, str]()
    try:
        with contextlib.ExitStack() as stack:
            writer = None
            for chunk in chunks:
                probabilities = predict(model, chunk.images)
                table = _table(chunk, probabilities, version, classes, text)
                table = _without_predictions(table, unsure(chunk.images, probabilities, chunk.warnings, min_confidence))
                if split:
                    table = table.append_column("number", pa.array(_numbers(table), pa.string()))
                if writer is None:
                    writer = stack.enter_context(WRITERS[out.suffix.lower()](partial, table.schema))
                writer.write_table(table)
                written += len(probabilities)
                unreadable |= chunk.unreadable
                yield chunk, probabilities
        if not written:
            problems = "; ".join(f"{name}: {problem}" for name, problem in islice(unreadable.items(), 3))
            raise ValueError(f"none of {len(unreadable):,} images can be read, {out.name} is not written: {problems}")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _table(
    chunk: Chunk, probabilities: np.ndarray, version: int, classes: Sequence[str], text: Callable[[str], str]
) -> pa.Table:
    """Return a row for each image; the prediction is a number if the classes are just numbered, and else a name."""
    images = chunk.names if isinstance(chunk.names, range) else [*map(text, chunk.names)]
    numbered = list(classes) == [*map(str, range(len(classes)))]
    labels = pa.array(range(len(classes)), pa.int16()) if numbered else pa.array([*map(text, classes)], pa.string())
    return pa.table(
        {
            "image": pa.array(images, pa.int64() if isinstance(images, range) else pa.string()),
            "prediction": labels.take(pa.array(probabilities.argmax(axis=1))),
            **{
                f"p{label}" if numbered else f"p_{label}": np.ascontiguousarray(column)
                for label, column in zip(classes, probabilities.T, strict=True)
            },
            "model_version": np.full(len(probabilities), version, np.int32),
            "warning": pa.array(warnings(chunk.warnings, probabilities), pa.string()),
        }
    )


def _without_predictions(table: pa.Table, rows: np.ndarray) -> pa.Table:
    at = table.column_names.index("prediction")
    predictions = pa.compute.if_else(pa.array(rows), None, table["prediction"])
    return table.set_column(at, "prediction", predictions)


def _numbers(table: pa.Table) -> list[str | None]:
    """Return for each row what all the rows of its image say together; nothing if one of them says nothing."""
    names, digits = table["image"].to_pylist(), table["prediction"].to_pylist()
    of_images: dict[str, list[object]] = {}
    for name, digit in zip(names, digits, strict=True):
        of_images.setdefault(name, []).append(digit)
    numbers = {name: None if None in each else "".join(map(str, each)) for name, each in of_images.items()}
    return [numbers[name] for name in names]
