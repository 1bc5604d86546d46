"""Small data: what the batch size does to an epoch of few images, and what patience stops.

.venv/bin/python benchmarks/small_data.py

Trains on slices of MNIST's training split, and scores on 4,000 images of its test split.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mnist_pipeline.config import FAST, TrainConfig
from mnist_pipeline.data import mnist
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits, load_splits
from mnist_pipeline.training.evaluation import score
from mnist_pipeline.training.loop import adapt_batch_size, fit
from mnist_pipeline.training.model import MLP

SEEDS = 2
SIZES = (60, 200, 400, 1000)  # images


def main() -> None:
    source = DataSource()
    splits = load_splits(source, mnist.download(source))
    print("| images | schedule | patience | batch size | test, % | epochs |\n| --- | --- | --- | --- | --- | --- |")
    for size, config in configs():
        accuracies, lengths = zip(
            *(train(replace(config, seed=seed, threads=1), size, splits) for seed in range(SEEDS)), strict=True
        )
        mean, low, high = (100 * each for each in (np.mean(accuracies), min(accuracies), max(accuracies)))
        row = (size, config.schedule, config.patience, config.batch_size, f"{mean:.1f} ({low:.1f}–{high:.1f})")
        print(f"| {' | '.join(map(str, row))} | {', '.join(map(str, lengths))} |", flush=True)


def configs() -> Iterator[tuple[int, TrainConfig]]:
    for size, epochs in ((400, 3), (400, 10), *((size, 30) for size in SIZES)):
        config = replace(FAST, epochs=epochs)
        chosen = adapt_batch_size(config, images=size).batch_size
        for batch_size in sorted({4, 8, 16, chosen, min(256, size)}):
            yield size, replace(config, batch_size=batch_size)
    for schedule in (FAST, replace(FAST, schedule="constant", lr=0.002)):
        config = adapt_batch_size(replace(schedule, epochs=60), images=1000)
        for patience in (0, 5, 10):
            yield 1000, replace(config, patience=patience, validation=0.1)


def train(config: TrainConfig, size: int, splits: Splits) -> tuple[float, int]:
    """Return the accuracy and the number of epochs of a training on `size` images, others for each seed."""
    rows, val = slice(config.seed * 5000, config.seed * 5000 + size), slice(40_000, 40_000 + size // 10)
    images, labels = splits.train.images, splits.train.labels
    mlp = MLP.from_config(config, inputs=784, outputs=10)
    epochs = list(fit(mlp, images[rows], labels[rows], config, val=(images[val], labels[val])))
    return score(mlp, splits.test.images[:4000], splits.test.labels[:4000]).accuracy, len(epochs)


if __name__ == "__main__":
    main()
