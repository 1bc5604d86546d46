"""`fit` of this project, with the options of a config as JSON; the first epoch of a compiled one is told apart."""

from clock import Clock

clock = Clock()
import json
import sys
from pathlib import Path

from mnist_pipeline import data, evaluation
from mnist_pipeline.config import RECIPES
from mnist_pipeline.model import MLP
from mnist_pipeline.training import choose_threads, fit

clock.tick("import")

splits = data.split(*data.load("mnist", Path(sys.argv[1]) / "MNIST" / "raw"))
clock.tick("load")

options = json.loads(sys.argv[2])
recipe = RECIPES[options.pop("recipe", "reference")]
config = recipe(**options)
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
