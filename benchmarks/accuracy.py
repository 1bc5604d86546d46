"""The accuracy of each recipe on test and holdout, and its training time, over several seeds; nothing is tracked.

.venv/bin/python benchmarks/accuracy.py                                     every recipe, five seeds
.venv/bin/python benchmarks/accuracy.py accurate --seeds 1 --epochs 5 15 50 with less time, and with more
"""

import time
from typing import Annotated, get_args

import cyclopts
import numpy as np

from mnist_pipeline.config import RECIPES, RecipeName, TrainConfig, with_recipe
from mnist_pipeline.data import mnist
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits, load_splits, validation_split
from mnist_pipeline.training.calibration import calibrate
from mnist_pipeline.training.evaluation import evaluate, predict
from mnist_pipeline.training.loop import fit
from mnist_pipeline.training.model import MLP

DECIMALS = (1, 3, 3, 4)  # of the seconds, the two accuracies and the calibration error
Several = Annotated[tuple[int, ...], cyclopts.Parameter(consume_multiple=True)]


def main(*recipes: RecipeName, seeds: int = 5, epochs: Several = (), threads: int = 0) -> None:
    """Train each of `recipes` with the first `seeds` seeds, for its own number of epochs or for each of `epochs`."""
    source = DataSource()
    splits = load_splits(source, mnist.download(source))
    print("| recipe | layers | parameters | epochs | training, s | test, % | holdout, % | calibration error |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for recipe in recipes or get_args(RecipeName):
        for length in epochs or (RECIPES[recipe].epochs,):
            fields = {"recipe": recipe, "epochs": length, "threads": threads}
            configs = [TrainConfig(**with_recipe(fields | {"seed": seed})) for seed in range(seeds)]
            results = np.array([train(config, splits) for config in configs])
            means, spread = results.mean(axis=0), results.std(axis=0, ddof=1) if seeds > 1 else None
            cells = [f"{value:.{decimals}f}" for value, decimals in zip(means, DECIMALS, strict=True)]
            if spread is not None:
                cells = [
                    f"{cell} ± {sd:.{decimals}f}" for cell, sd, decimals in zip(cells, spread, DECIMALS, strict=True)
                ]
            mlp = MLP.from_config(configs[0], inputs=784, outputs=10)
            parameters = sum(each.numel() for each in mlp.parameters())
            description = [recipe, "-".join(map(str, mlp.sizes)), f"{parameters:,}", str(length)]
            print(f"| {' | '.join([*description, *cells])} |", flush=True)


def train(config: TrainConfig, splits: Splits) -> tuple[float, float, float, float]:
    """Return a training's seconds, its accuracies on test and holdout in percent, and its calibration error."""
    mlp = MLP.from_config(config, inputs=784, outputs=10)
    start = time.perf_counter()
    part, validation = splits.train, None
    if config.validation:
        part, validation = validation_split(part, classes=10, share=config.validation)
    for _ in fit(mlp, part.images, part.labels, config):
        pass
    if validation:
        calibrate(mlp, validation.images, validation.labels)
    seconds = time.perf_counter() - start
    test, holdout = (evaluate(predict(mlp, part.images), part.labels) for part in (splits.test, splits.holdout))
    return seconds, 100 * test.accuracy, 100 * holdout.accuracy, holdout.calibration_error


if __name__ == "__main__":
    cyclopts.run(main)
