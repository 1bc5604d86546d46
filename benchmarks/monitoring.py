"""How often monitoring raises a false alarm, on draws from the test split, which has not drifted.

.venv/bin/python benchmarks/monitoring.py [--draws 1000] [--sizes 50]
"""

import dataclasses
import time

import cyclopts
import numpy as np
import torch

from mnist_pipeline.config import FAST
from mnist_pipeline.data import drift, mnist
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Examples, load_splits
from mnist_pipeline.monitoring import verdict
from mnist_pipeline.training.evaluation import coverage, predict
from mnist_pipeline.training.loop import fit, torch_threads
from mnist_pipeline.training.model import MLP


def main(*, draws: int = 1000, sizes: tuple[int, ...] = (50, 100, 300, 1000)) -> None:
    """Judge random parts of the test split, which the champion's kind of network has not learnt from."""
    source = DataSource()
    splits = load_splits(source, mnist.download(source))
    with torch_threads(1):
        mlp = MLP.from_config(FAST, inputs=784, outputs=10)
        for _ in fit(mlp, splits.train.images, splits.train.labels, FAST):
            pass
        holdout = predict(mlp, splits.holdout.images)
        test = predict(mlp, splits.test.images)
        rows = coverage(holdout, splits.holdout.labels)
        table = [dataclasses.asdict(row) for row in rows]
        profile = drift.profile(splits.train, splits.schema)
        print("| images | draws | look | retrain | by statistic |\n" + "| --- " * 5 + "|")
        for size in sizes:
            rng, found, by_name = np.random.default_rng(size), {"moderate": 0, "large": 0}, dict[str, int]()
            for _ in range(draws):
                chosen = torch.from_numpy(
                    rng.choice(len(test), size, replace=False)
                )  # neither learnt from nor compared with
                part = Examples(splits.test.pixels[chosen], test[chosen].argmax(dim=1), sha256="")
                shifts = drift.shifts(profile, part)
                shifts.append(verdict.confidence_shift(table, test[chosen].amax(dim=1).numpy()))
                verdicts = {shift.verdict for shift in shifts}
                worst = "large" if "large" in verdicts else "moderate" if "moderate" in verdicts else ""
                if worst:
                    found[worst] += 1
                for shift in shifts:
                    if shift.verdict in found:
                        by_name[shift.statistic] = by_name.get(shift.statistic, 0) + 1
            print(f"| {size} | {draws} | {found['moderate']} | {found['large']} | {by_name} |", flush=True)


if __name__ == "__main__":
    begun = time.perf_counter()
    cyclopts.run(main)
    print(f"{time.perf_counter() - begun:.0f} s")
