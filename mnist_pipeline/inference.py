"""Predictions for images, chunk by chunk, in a Parquet or CSV file that appears only once it is whole."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv, parquet

from mnist_pipeline.config import DIGITS, check_out
from mnist_pipeline.inputs import Chunk
from mnist_pipeline.training import threads

Model = Callable[[torch.Tensor], torch.Tensor]  # uint8 images (N, H, W) → probabilities (N, classes)
BATCH = 2048  # images that fit into a core's cache
WRITERS = {".parquet": parquet.ParquetWriter, ".csv": csv.CSVWriter}


def predict(model: Model, images: np.ndarray) -> np.ndarray:
    """Give the probabilities (N, classes) of uint8 `images` (N, H, W), in order."""
    with torch.inference_mode(), threads(1):  # a second gains little on a quiet machine, and much on a busy one
        return torch.cat([model(batch) for batch in torch.from_numpy(images).split(BATCH)]).numpy()


def write(
    out: Path, chunks: Iterable[Chunk], model: Model, *, version: int, classes: Sequence[str] = DIGITS
) -> Iterator[tuple[Chunk, np.ndarray]]:
    """Predict `chunks` with `model`, a `version` of a registered model that knows `classes`, and write them to `out`.

    Yields each chunk and its probabilities as they are written. `out` keeps what it held until all of it is.
    Raises `ValueError` where no image can be read.
    """
    check_out(out)
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
            complaints = "; ".join(f"{name}: {reason}" for name, reason in islice(unreadable.items(), 3))
            raise ValueError(f"none of {len(unreadable):,} images can be read, {out.name} is not written: {complaints}")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _table(chunk: Chunk, probabilities: np.ndarray, version: int, classes: Sequence[str]) -> pa.Table:
    """Make a row of each image; classes that are just numbered stay numbers, all others are names."""
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
