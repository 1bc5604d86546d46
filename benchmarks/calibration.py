"""Do probabilities mean what they say? Each recipe over several seeds, before and after its temperature.

.venv/bin/python benchmarks/calibration.py [RECIPE ...] [--seeds 5] [--threads 1]

The temperature is fitted on the validation part or, as a training does where there is none, on the test split. A recipe
without a validation part is trained as it is, and once more with 5 % of the training split cut off.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import cyclopts
import numpy as np
import torch

from mnist_pipeline.config import RECIPES, RecipeName, TrainConfig
from mnist_pipeline.data import mnist
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits, load_splits, validation_split
from mnist_pipeline.training.calibration import fit_temperature
from mnist_pipeline.training.evaluation import evaluate, predict_logits
from mnist_pipeline.training.loop import fit
from mnist_pipeline.training.model import MLP

COLUMNS = {  # and decimals
    "temperature": 3,
    "holdout, %": 3,
    "loss before": 4,
    "loss": 4,
    "calibration error before, points": 2,
    "calibration error, points": 2,
}


def main(*recipes: RecipeName, seeds: int = 5, threads: int = 0) -> None:
    """Train each of `recipes` with the first `seeds` seeds, and score them on the holdout."""
    source = DataSource()
    splits = load_splits(source, mnist.download(source))
    print(
        f"| recipe | validation | {' | '.join(COLUMNS)} |\n| {' | '.join(['---'] * (2 + len(COLUMNS)))} |", flush=True
    )
    for config in variants(recipes or get_args(RecipeName)):
        rows = np.array([train(replace(config, seed=seed, threads=threads), splits) for seed in range(seeds)])
        means, spread = rows.mean(axis=0), rows.std(axis=0, ddof=min(1, seeds - 1))
        cells = (
            f"{mean:.{decimals}f} ± {sd:.{decimals}f}"
            for mean, sd, decimals in zip(means, spread, COLUMNS.values(), strict=True)
        )
        print(f"| `{config.recipe}` | {config.validation or '–'} | {' | '.join(cells)} |", flush=True)


def variants(recipes: tuple[RecipeName, ...]) -> Iterator[TrainConfig]:
    for config in map(RECIPES.__getitem__, recipes):
        yield config
        if not config.validation:
            yield replace(config, validation=0.05)


def train(config: TrainConfig, splits: Splits) -> tuple[float, ...]:
    """Return the values of the columns for one training."""
    part, calibration_part = splits.train, splits.test
    if config.validation:
        part, calibration_part = validation_split(part, classes=10, share=config.validation)
    mlp = MLP.from_config(config, inputs=784, outputs=10)
    for _ in fit(mlp, part.images, part.labels, config):
        pass
    temperature = fit_temperature(predict_logits(mlp, calibration_part.images), calibration_part.labels)
    logits, labels = predict_logits(mlp, splits.holdout.images), splits.holdout.labels
    return columns(temperature, logits, labels)


def columns(temperature: float, logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, ...]:
    before, after = (evaluate((logits / each).softmax(dim=1), labels) for each in (1.0, temperature))
    errors = (100 * before.calibration_error, 100 * after.calibration_error)
    return temperature, 100 * after.accuracy, before.loss, after.loss, *errors


if __name__ == "__main__":
    cyclopts.run(main)
