"""Predictions for images, chunk by chunk, in a Parquet or CSV file that appears only once it is complete."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv, parquet

from mnist_pipeline.config import check_predictions_file
from mnist_pipeline.data.readers import Chunk
from mnist_pipeline.data.schema import DIGITS
from mnist_pipeline.training.loop import threads

Model = Callable[[torch.Tensor], torch.Tensor]  # uint8 images (N, H, W) → probabilities (N, classes)
BATCH_SIZE = 2048  # images that fit into a core's cache
WRITERS = {".parquet": parquet.ParquetWriter, ".csv": csv.CSVWriter}


def predict(model: Model, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, classes) of uint8 `images` (N, H, W), in order."""
    with torch.inference_mode(), threads(1):  # a second gains little on a quiet machine, and much on a busy one
        return torch.cat([model(batch) for batch in torch.from_numpy(images).split(BATCH_SIZE)]).numpy()


def write(
    out: Path, chunks: Iterable[Chunk], model: Model, *, version: int, classes: Sequence[str] = DIGITS
) -> Iterator[tuple[Chunk, np.ndarray]]:
    """Predict `chunks` with `model`, the given `version` of a registered model, and write the predictions to `out`.

    Yields each chunk and its probabilities once they are written. `out` is replaced only at the end, when the new file
    is complete. Raises `FieldError` if `out` cannot be written, and `ValueError` if no image can be read.
    """
    check_predictions_file(out)
    partial = out.with_name(f".{out.name}.partial")
    written, unreadable = 0, dict[str, str]()
    try:
        with contextlib.ExitStack() as stack:
            writer = None
            for chunk in chunks:
                probabilities = predict(model, chunk.images)
                table = _table(chunk, probabilities, version, classes)
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


def _table(chunk: Chunk, probabilities: np.ndarray, version: int, classes: Sequence[str]) -> pa.Table:
    """Return a row for each image; the prediction is a number if the classes are just numbered, and else a name."""
    by_name = not isinstance(chunk.names, range)
    numbered = list(classes) == [*map(str, range(len(classes)))]
    labels = pa.array(range(len(classes)), pa.int16()) if numbered else pa.array(classes, pa.string())
    return pa.table(
        {
            "image": pa.array(chunk.names, pa.string() if by_name else pa.int64()),
            "prediction": labels.take(pa.array(probabilities.argmax(axis=1))),
            **{
                f"p{label}" if numbered else f"p_{label}": np.ascontiguousarray(column)
                for label, column in zip(classes, probabilities.T, strict=True)
            },
            "model_version": np.full(len(probabilities), version, np.int32),
        }
    )
