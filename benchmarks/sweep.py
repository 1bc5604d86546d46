"""Times sweeps: trials an hour with one worker and two, what a trial costs beside its training, and how that grows.

make bench-sweep                        all of it: a quarter of an hour
make bench-sweep ARGS="--tiny 10 100"   other numbers of tiny trials
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import cyclopts
import numpy as np
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[1]
SWEEP = [sys.executable, str(ROOT / "flows" / "sweep_flow.py"), "--floor", "0", "--pruner", "none"]
FULL = ["--layers", "2", "--units", "256", "--batch-size", "128", "--optimizer", "adam", "--epochs", "6"]
TINY = ["--layers", "1", "--units", "8", "--batch-size", "512", "--optimizer", "adam", "--epochs", "1"]
PLAIN = ["--augmentation", "0", "0", "--dropout", "0", "0", "--batch-norm", "off", "--schedule", "constant"]


def sweep(options: list[str], *, trials: int, workers: int) -> tuple[float, float]:
    """Run a sweep on databases of its own; return its trials per hour, and a worker's idle seconds before each.

    Each worker's first trial, which holds its imports and the reading of the data, is left out.
    """
    with tempfile.TemporaryDirectory() as home:
        store = f"sqlite:///{home}/mlflow.db"
        own = {"PREFECT_HOME": f"{home}/prefect", "MLFLOW_TRACKING_URI": store, "PREFECT_UI_URL": "http://127.0.0.1:9"}
        words = [*SWEEP, *options, *PLAIN, "--trials", str(trials + workers), "--workers", str(workers)]
        done = subprocess.run(words, env=os.environ | own, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
        client = MlflowClient(store)
        runs = [run for run in client.search_runs(["1"], max_results=5000) if "trial" in run.data.tags]
    times = np.array(sorted((run.info.start_time, run.info.end_time) for run in runs)) / 1000
    steady, warm = times[workers:], times[:workers, 1].min()
    last = times[-1, 0]  # from then on a worker is idle because nothing is left to do
    busy = np.ptp(times.clip(warm, last), axis=1).sum()
    return 3600 * len(steady) / (times[:, 1].max() - warm), ((last - warm) * workers - busy) / len(steady)


def main(
    *, trials: int = 12, tiny: Annotated[tuple[int, ...], cyclopts.Parameter(consume_multiple=True)] = (10, 100, 1000)
) -> None:
    print("| trials | workers | trials an hour | idle before a trial |\n| --- | --- | --- | --- |")
    rates = {}
    for workers in (1, 2):
        rates[workers], cost = sweep(FULL, trials=trials, workers=workers)
        print(f"| {trials} of six epochs | {workers} | {rates[workers]:,.0f} | {cost:.2f} s |", flush=True)
    for count in tiny:
        rate, cost = sweep(TINY, trials=count, workers=2)
        print(f"| {count:,} tiny ones | 2 | {rate:,.0f} | {cost:.2f} s |", flush=True)
    print(f"\nEfficiency of two workers: {rates[2] / rates[1] / 2:.2f}")


if __name__ == "__main__":
    cyclopts.run(main)
