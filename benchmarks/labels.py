"""How well wrong labels are found, and how often correct ones are called shuffled.

.venv/bin/python benchmarks/labels.py issues --seeds 3      changes 1 % of MNIST's labels, and looks for them
.venv/bin/python benchmarks/labels.py shuffled --draws 200  small data sets, as they are and shuffled
"""

import time
from collections import Counter
from dataclasses import replace

import cyclopts
import numpy as np
import torch
from sklearn.datasets import load_digits

from mnist_pipeline.config import FAST
from mnist_pipeline.data import label_issues, mnist, validation
from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Examples, Splits, development, load_splits, make_examples
from tasks.inspect import fold

app = cyclopts.App()
SHARE = 0.01  # of the labels that are changed


@app.command
def issues(*, seeds: int = 3, folds: int = 5) -> None:
    """Change 1 % of the labels of MNIST's 60,000 training images at random, and look for them, once per seed."""
    source = DataSource()
    part, _ = development(load_splits(source, mnist.download(source)), folds=folds, seed=0)
    print("| seed | changed | found | precision | recall | accuracy, % | seconds |\n" + "| --- " * 7 + "|")
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        changed = rng.choice(len(part), round(SHARE * len(part)), replace=False)
        labels = part.labels.numpy().copy()
        labels[changed] = (labels[changed] + rng.integers(1, 10, len(changed))) % 10
        noisy = replace(part, labels=torch.from_numpy(labels))
        fold_of = rng.permutation(len(part)) % folds
        start = time.perf_counter()
        probabilities = np.empty((len(part), 10), np.float32)
        for number in range(folds):
            result = fold.fn(number, noisy, fold_of, replace(FAST, seed=seed), classes=10)
            probabilities[fold_of == number] = result.numpy()
        found, _ = label_issues.find(labels, probabilities)
        seconds = time.perf_counter() - start
        hits = len(np.intersect1d(found, changed))
        accuracy = (probabilities.argmax(axis=1) == part.labels.numpy()).mean()
        scores = f"{hits / len(found):.3f} | {hits / len(changed):.3f} | {100 * accuracy:.2f} | {seconds:.1f}"
        print(f"| {seed} | {len(changed)} | {len(found)} | {scores} |", flush=True)
        compare(labels, probabilities, found)


def compare(labels: np.ndarray, probabilities: np.ndarray, found: np.ndarray) -> None:
    """Print how far cleanlab, if it is installed, finds the same."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return
    mask = find_label_issues(labels, probabilities, filter_by="low_self_confidence", n_jobs=1)
    print(f"cleanlab finds {mask.sum()}, of which ours are {mask[found].sum()}", flush=True)


@app.command
def shuffled(*, draws: int = 200, sizes: tuple[int, ...] = (60, 120, 400)) -> None:
    """Draw small data sets of several kinds, and count how often their labels are called shuffled."""
    source = DataSource()
    digits = load_digits()
    large = load_splits(source, mnist.download(source)).holdout
    small = np.round(digits.images * 255 / 16).astype(np.uint8), digits.target
    full = large.pixels.numpy(), large.labels.numpy()
    kinds = {
        "8×8 digits": small,
        "MNIST": full,
        "MNIST, odd or even": (full[0], full[1] % 2),
        "MNIST, 4 or 9": tuple(each[np.isin(full[1], (4, 9))] for each in full),
        "MNIST, below 5 or not, noise added": (noisy(full[0]), (full[1] > 4).astype(int)),
    }
    print("| data | images | accused, as they are | shuffled | test alone shuffled |\n| --- | --- | --- | --- | --- |")
    for name, (pixels, labels) in kinds.items():
        _, numbers = np.unique(labels, return_inverse=True)
        for size in sizes:
            counts = Counter[str]()
            for draw in range(draws):
                rng = np.random.default_rng(draw)
                rows = rng.choice(len(pixels), size, replace=False)
                own = numbers[rows]
                cut = [round(0.68 * size), round(0.85 * size)]
                mixed = rng.permutation(own)
                half = np.concatenate([own[: cut[0]], rng.permutation(own[cut[0] : cut[1]]), own[cut[1] :]])
                for kind, given in (("as they are", own), ("shuffled", mixed), ("test alone", half)):
                    counts[kind] += accused(pixels[rows], given, cut, classes=int(numbers.max()) + 1)
            cells = (f"{100 * counts[kind] / draws:.1f} %" for kind in ("as they are", "shuffled", "test alone"))
            print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


def noisy(pixels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (pixels + rng.normal(0, 80, pixels.shape)).clip(0, 255).astype(np.uint8)


def accused(pixels: np.ndarray, labels: np.ndarray, cut: list[int], *, classes: int) -> bool:
    parts: list[Examples] = [
        make_examples(LabelledImages(images, numbers.astype(np.int64)), classes=classes)
        for images, numbers in zip(np.split(pixels, cut), np.split(labels, cut), strict=True)
    ]
    schema = Schema(tuple(map(str, range(classes))), *pixels.shape[1:])
    (finding,) = validation.labels_fit(Splits(*parts, schema=schema))
    return finding.level == "warning"


if __name__ == "__main__":
    app()
