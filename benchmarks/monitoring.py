"""How often monitoring raises a false alarm, and what a year of nightly retrainings takes on the disk.

python benchmarks/monitoring.py alarms      draws from the holdout, which has not drifted
python benchmarks/monitoring.py year        a year's versions in a store of its own, pruned as a schedule would
"""

import dataclasses
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import cyclopts
import numpy as np
import torch

app = cyclopts.App()


@app.command
def alarms(*, draws: int = 1000, sizes: tuple[int, ...] = (50, 100, 300, 1000)) -> None:
    """Judge random parts of the holdout, which the champion's kind of network has not learnt from."""
    from mnist_pipeline import monitoring
    from mnist_pipeline.config import FAST
    from mnist_pipeline.data import drift, mnist
    from mnist_pipeline.data.source import DataSource
    from mnist_pipeline.data.splits import Examples, load_splits
    from mnist_pipeline.training.evaluation import coverage, predict
    from mnist_pipeline.training.loop import fit, torch_threads
    from mnist_pipeline.training.model import MLP

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
                shifts.append(monitoring.confidence_shift(table, test[chosen].amax(dim=1).numpy()))
                verdicts = {shift.verdict for shift in shifts}
                worst = "large" if "large" in verdicts else "moderate" if "moderate" in verdicts else ""
                if worst:
                    found[worst] += 1
                for shift in shifts:
                    if shift.verdict in found:
                        by_name[shift.statistic] = by_name.get(shift.statistic, 0) + 1
            print(f"| {size} | {draws} | {found['moderate']} | {found['large']} | {by_name} |", flush=True)


@app.command
def year(*, nights: int = 365, keep: int = 20) -> None:
    """Log what a retraining logs, but for the training itself, once a night, and prune what is older than 30 nights."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "DO_NOT_TRACK": "true"}
        from mnist_pipeline.config import FAST
        from mnist_pipeline.tracking import pruning, runs, store
        from mnist_pipeline.tracking.gate import Check, Decision
        from mnist_pipeline.tracking.registry import Registry

        registry, decision = Registry("mnist-mlp"), Decision((Check("floor", False, "as it is"),), {"accuracy": 0.97})
        first = Decision((Check("floor", True, "as it is"),), {"accuracy": 0.97})
        artifact = b"0" * 1_900_000  # what a run of the fast recipe logs, 1.0 MB, and its model, 0.9 MB
        store.prepare()
        client = store.client()
        client.create_registered_model(registry.name)
        for night in range(nights):
            with runs.start_run(params=dataclasses.asdict(FAST), tags={"night": str(night)}) as run:
                for epoch in range(1, 11):
                    run.log_metrics({f"metric_{number}": 0.5 for number in range(12)}, step=epoch)
                file = Path(folder) / "artifacts.bin"
                file.write_bytes(artifact)
                run.log_file(file)
            created = client.create_model_version(registry.name, "/nowhere", run.id)
            entry = first if night == 0 else decision
            registry.evaluate_challenger(int(created.version), lambda _, made=entry: made, holdout_sha256="e")
            if night >= 30:  # the nights are simulated: those of thirty nights ago are as old as that
                old = pruning.old_versions(registry, keep=max(keep, 30), older_than=timedelta(0))
                for number in old:
                    pruning.prune(registry, number)
            if night + 1 in (30, 90, 180, nights):
                sizes = {name: size(Path(folder) / name) for name in ("mlflow.db", "mlartifacts")}
                print(f"| {night + 1} | {' | '.join(f'{each / 1e6:.1f} MB' for each in sizes.values())} |", flush=True)


def size(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


if __name__ == "__main__":
    begun = time.perf_counter()
    app()
    print(f"{time.perf_counter() - begun:.0f} s")
