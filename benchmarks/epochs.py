"""What denormals and a second thread cost an epoch: trainings that take turns, epoch by epoch, in one process.

.venv/bin/python benchmarks/epochs.py
"""

import contextlib
import statistics
import time
from dataclasses import replace
from unittest.mock import patch

import torch

from mnist_pipeline import data, training
from mnist_pipeline.config import DataSource, TrainConfig
from mnist_pipeline.model import MLP

EPOCHS = 10
CONFIG = TrainConfig(epochs=EPOCHS)
VARIANTS = {
    "as it is": (CONFIG, training.flushing_denormals),
    "with denormals": (CONFIG, contextlib.nullcontext),
    "on two threads": (replace(CONFIG, threads=2), training.flushing_denormals),
}


def main() -> None:
    source = DataSource()
    train = data.split(*data.load(source.dataset, data.download(source))).train
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    trainings = {
        name: training.fit(MLP.from_config(config, inputs=784, outputs=10), train.images, train.labels, config)
        for name, (config, _) in VARIANTS.items()
    }
    for number in range(EPOCHS):
        for name, (_, context) in VARIANTS.items():
            torch.manual_seed(number)  # the same shuffle for each
            begun = time.perf_counter()
            with patch.object(training, "flushing_denormals", context):
                epoch = next(trainings[name])
            seconds[name].append(time.perf_counter() - begun)
            print(f"{name}: epoch {epoch.number}, loss {epoch.train_loss}, {seconds[name][-1]:.2f} s")
    print("\n| an epoch | seconds | against it as it is |\n| --- | --- | --- |")
    for name, mine in seconds.items():  # the first epoch of the first training holds torch's imports
        ratios = sorted(one / other for one, other in zip(mine[1:], seconds["as it is"][1:], strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        print(f"| {name} | {statistics.median(mine):.2f} | {spread} |")


if __name__ == "__main__":
    main()
