"""What makes an epoch quick: trainings with one thing undone each, that take turns, epoch by epoch, in one process.

.venv/bin/python benchmarks/epochs.py
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import torch

from mnist_pipeline import data, optimizers, training
from mnist_pipeline.config import DataSource, TrainConfig
from mnist_pipeline.model import MLP


class UntransposedAdam(optimizers.FusedAdam):
    """For weights that lie as they come."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        super().__init__([weight.t() for weight in weights])

    def __call__(self, gradients: list[torch.Tensor], lr: float) -> None:
        super().__call__([gradient.t() for gradient in gradients], lr)


@contextlib.contextmanager
def lie_as_they_come() -> Iterator[None]:
    with (
        patch.object(training, "_lay_out", lambda mlp: None),
        patch.dict(optimizers.OPTIMIZERS, adam=UntransposedAdam),
    ):
        yield


EPOCHS = 10
CONFIG = TrainConfig(epochs=EPOCHS)
ADAM = partial(optimizers.ClassUpdate, partial(torch.optim.Adam, fused=True))
VARIANTS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "as it is": contextlib.nullcontext,
    "with denormals": lambda: patch.object(training, "flushing_denormals", contextlib.nullcontext),
    "with weights that lie as (outputs, inputs)": lie_as_they_come,
    "with Adam's class": lambda: patch.dict(optimizers.OPTIMIZERS, adam=ADAM),
    "on two threads": lambda: patch.object(training, "choose_threads", lambda mlp, config: 2),
}


def main() -> None:
    source = DataSource()
    train = data.split(*data.load(source.dataset, data.download(source))).train
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    trainings = {
        name: training.fit(MLP.from_config(CONFIG, inputs=784, outputs=10), train.images, train.labels, CONFIG)
        for name in VARIANTS
    }
    for number in range(EPOCHS):
        for name, changed in VARIANTS.items():
            torch.manual_seed(number)  # the same shuffle for each
            begun = time.perf_counter()
            with changed():
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
