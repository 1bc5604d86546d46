"""What makes an epoch fast: trainings that differ in one thing each, interleaved epoch by epoch in one process.

.venv/bin/python benchmarks/epochs.py
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from mnist_pipeline.config import REFERENCE
from mnist_pipeline.data import mnist
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Examples, load_splits
from mnist_pipeline.text import percent
from mnist_pipeline.training import loop
from mnist_pipeline.training.evaluation import score
from mnist_pipeline.training.model import MLP
from mnist_pipeline.training.optimizers import OPTIMIZERS, TorchOptimizer

EPOCHS = 10


def network() -> MLP:
    return MLP.from_config(REFERENCE, inputs=784, outputs=10)


def ours(train: Examples, *, threads: int = 0) -> Iterator[object]:
    return loop.fit(network(), train.images, train.labels, replace(REFERENCE, threads=threads))


def with_adams_class(train: Examples) -> Iterator[object]:
    with patch.dict(OPTIMIZERS, adam=partial(TorchOptimizer, torch.optim.Adam, fused=True)):
        training = ours(train)
        yield next(training)  # which makes the optimizer
    yield from training


def with_denormals(train: Examples) -> Iterator[object]:
    training = ours(train)
    while True:
        with patch.object(loop, "flush_denormals", contextlib.nullcontext):
            epoch = next(training)
        yield epoch


def with_backward(train: Examples) -> Iterator[object]:
    """Torch's class, `backward` and `zero_grad`, on our tensor and index, one thread, without denormals."""
    mlp, images, labels = network(), train.images.flatten(1), train.labels
    optimizer = torch.optim.Adam(mlp.parameters(), lr=REFERENCE.lr, fused=True)
    while True:
        with loop.torch_threads(1), loop.flush_denormals():
            for rows in torch.randperm(len(images)).split(REFERENCE.batch_size):
                optimizer.zero_grad()
                loss = cross_entropy(mlp(images[rows]), labels[rows])
                loss.backward()
                optimizer.step()
        yield loss.item()


def tutorials_loop(train: Examples) -> Iterator[object]:
    mlp = network()
    optimizer = torch.optim.Adam(mlp.parameters(), lr=REFERENCE.lr)
    dataset = TensorDataset(train.images.flatten(1), train.labels)
    loader = DataLoader(dataset, batch_size=REFERENCE.batch_size, shuffle=True, drop_last=True)
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = cross_entropy(mlp(images), labels)
            loss.backward()
            optimizer.step()
        yield loss.item()


VARIANTS: dict[str, Callable[[Examples], Iterator[object]]] = {
    "as it is": ours,
    "with denormals": with_denormals,
    "with `torch.optim.Adam(fused=True)`": with_adams_class,
    "with that, `zero_grad`, `backward` and plain indexing": with_backward,
    "on two threads": partial(ours, threads=2),
    "the tutorial's loop (DataLoader, default Adam, two threads)": tutorials_loop,
}


def cost_of_scores(train: Examples, test: Examples) -> list[float]:
    """Return what scoring `test` takes of an epoch's CPU time, each right after that epoch, in ascending order."""
    training, mlp, shares = ours(train, threads=1), network(), []
    for _ in range(EPOCHS):
        begun = time.thread_time()
        next(training)
        epoch = time.thread_time() - begun
        with loop.torch_threads(1), loop.flush_denormals():
            begun = time.thread_time()
            score(mlp, test.images, test.labels)
        shares.append((time.thread_time() - begun) / epoch)
    return sorted(shares[1:])


def main() -> None:
    source = DataSource()
    splits = load_splits(source, mnist.download(source))
    train = splits.train
    shares = cost_of_scores(train, splits.test)
    middle, least, most = (percent(share, 1) for share in (statistics.median(shares), shares[0], shares[-1]))
    print(f"Scoring test: {middle} of an epoch ({least}–{most})")
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    trainings = {name: variant(train) for name, variant in VARIANTS.items()}
    for number in range(EPOCHS):
        for name, training in trainings.items():
            torch.manual_seed(number)  # the same order for each
            start = time.perf_counter()
            next(training)
            seconds[name].append(time.perf_counter() - start)
            print(f"{name}: epoch {number + 1}, {seconds[name][-1]:.2f} s")
    print("\n| an epoch | seconds | / as it is |\n| --- | --- | --- |")
    for name, mine in seconds.items():  # the first epochs also import
        ratios = sorted(one / other for one, other in zip(mine[1:], seconds["as it is"][1:], strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        print(f"| {name} | {statistics.median(mine):.2f} | {spread} |")


if __name__ == "__main__":
    main()
