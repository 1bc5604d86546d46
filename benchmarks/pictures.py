"""Draws the holdout's digits into pictures as people take them, and reads them with the champion.

.venv/bin/python benchmarks/pictures.py tune          the kinds of picture that the reader was tuned on
.venv/bin/python benchmarks/pictures.py report        the kinds that it was not
.venv/bin/python benchmarks/pictures.py sheet         one of each kind: benchmarks/pictures.jpg
"""

import io
import os
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from kinds import DIGITS, KINDS, LABELS, UNCLEAR, Draw
from PIL import Image, ImageDraw
from scene import Scene

from mnist_pipeline.batch_inference import warnings
from mnist_pipeline.config import CHAMPION, ROOT
from mnist_pipeline.data.pictures import preprocessing
from mnist_pipeline.text import percent
from mnist_pipeline.tracking import registry, store
from mnist_pipeline.tracking.models import load_network

COUNT = 200  # of each kind


def pictures(kind: Draw, count: int = COUNT) -> Iterator[tuple[bytes, int]]:
    """Yield pictures of a kind, always the same, each with its digit."""
    rng = np.random.default_rng([*kind.__name__.encode()])
    for number in rng.choice(len(DIGITS), count, replace=False):
        scene = Scene(rng)
        kind(scene, DIGITS[number])
        yield scene.photograph(), int(LABELS[number])


def measure(half: str, count: int) -> None:
    """Print a table of what is read right."""
    store.prepare()
    versions, version = registry.resolve(CHAMPION)
    network = load_network(versions.uri(version))
    seconds, rows = 0.0, []
    print("| kind | right | without a warning | of these right |\n| --- | --- | --- | --- |")
    for kind in KINDS[half] + UNCLEAR[half]:
        readings, labels = [], []
        for picture, label in pictures(kind, count):
            start = time.process_time()
            readings.append(preprocessing.read(picture))
            seconds += time.process_time() - start
            labels.append(label)
        with torch.inference_mode():
            probabilities = network(torch.from_numpy(np.concatenate([each.pixels for each in readings]))).numpy()
        right = probabilities.argmax(axis=1) == labels
        clear = np.array([not each for each in warnings([each.warning for each in readings], probabilities)])
        if kind in KINDS[half]:
            rows.append((right, clear))
        shown = percent(right.mean(), 1) if kind in KINDS[half] else "–"
        sure = percent(right[clear].mean(), 1) if kind in KINDS[half] else "–"
        print(f"| {kind.__name__.replace('_', ' ')} | {shown} | {percent(clear.mean(), 1)} | {sure} |", flush=True)
    right, clear = (np.concatenate(each) for each in zip(*rows, strict=True))
    shown, answered, sure = (percent(each.mean(), 1) for each in (right, clear, right[clear]))
    print(f"| **all that show a digit** | {shown} | {answered} | {sure} |")
    print(
        f"\n{1000 * seconds / count / len(KINDS[half] + UNCLEAR[half]):.1f} ms of CPU time a picture, decoding included"
    )


def sheet() -> None:
    """Write a picture of each kind, and what is read from it, into one image."""
    kinds = [*KINDS["tune"], *UNCLEAR["tune"], *KINDS["report"], *UNCLEAR["report"]]
    columns, cell = 9, 130
    contact = Image.new("RGB", (columns * cell, -(-len(kinds) // columns) * (cell + 60)), "white")
    draw = ImageDraw.Draw(contact)
    for place, kind in enumerate(kinds):
        ((picture, _),) = pictures(kind, 1)
        row, column = divmod(place, columns)
        left, top = column * cell, row * (cell + 60)
        image = Image.open(io.BytesIO(picture))
        image.thumbnail((cell - 6, cell - 6))
        contact.paste(image, (left, top + 14))
        contact.paste(Image.fromarray(preprocessing.read(picture).pixels[0]), (left, top + cell + 12))
        draw.text((left, top), kind.__name__.replace("_", " "), fill="black")
    contact.save(ROOT / "benchmarks" / "pictures.jpg", quality=80)


if __name__ == "__main__":
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["sheet"]:
            sheet()
        case [("tune" | "report") as half, *count]:
            measure(half, int(count[0]) if count else COUNT)
        case _:
            sys.exit(__doc__)
