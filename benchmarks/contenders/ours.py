"""`fit` of this project, with a config as JSON; the first epoch of a compiled one is timed separately."""

from clock import Clock

clock = Clock()
import json
import sys
from pathlib import Path

from mnist_pipeline.config import TrainConfig, with_recipe
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import load_splits
from mnist_pipeline.training import evaluation
from mnist_pipeline.training.loop import choose_threads, fit
from mnist_pipeline.training.model import MLP

clock.tick("import")

splits = load_splits(DataSource(), Path(sys.argv[1]) / "MNIST" / "raw")
clock.tick("load")

config = TrainConfig(**with_recipe(json.loads(sys.argv[2])))
mlp = MLP.from_config(config, inputs=784, outputs=10)
epochs = fit(mlp, splits.train.images, splits.train.labels, config)
if config.compile:
    next(epochs)
    clock.tick("compile")
list(epochs)
clock.tick("train")
probabilities = evaluation.predict(mlp, splits.test.images)
accuracy = evaluation.evaluate(probabilities, splits.test.labels).accuracy
clock.tick("evaluate")
clock.report(accuracy=accuracy, threads=config.threads or choose_threads(mlp, config))
