"""What a year of nightly retrainings leaves on the disk: real flows; after each, all that is kept ages by a day.

.venv/bin/python benchmarks/year.py [--nights 365] [--keep 20]

The stores, the lasting Prefect server and the log are its own, in a temporary folder, and pruned as a schedule with
`--prune-keep` prunes them: MLflow's by the flow, Prefect's database by its server, the log by `--keep`.
"""

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import cyclopts
import numpy as np

DAY = 24 * 3600
ANSWERS, KEPT = 1_000, 100_000  # images that are served a day, and --keep
AGES = {"runs": ("start_time", "end_time"), "model_versions": ("creation_time", "last_updated_time")}  # milliseconds
VACUUM_SECONDS = 5  # an hour by default


def main(*, nights: int = 365, keep: int = 20) -> None:
    """Retrain once a night with another seed, and print the sizes of the stores."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        prepare(folder)
        from prefect import task

        from flows import retrain_flow as retraining
        from mnist_pipeline.config import FAST
        from mnist_pipeline.data import mnist
        from mnist_pipeline.data.source import DataSource

        source = DataSource()
        schema, (_, holdout) = mnist.read("mnist", mnist.download(source))
        retraining.reload = task(name="reload", task_run_name="reload")(write_onnx)
        stores = {name: folder / name for name in ("mlartifacts", "mlflow.db", ".prefect/prefect.db", "served.db")}
        print(f"| night | {' | '.join(stores)} |\n| {' | '.join(['---'] * (1 + len(stores)))} |", flush=True)
        with prefect_server():
            for night in range(nights):
                retraining.retrain_flow(replace(FAST, seed=night), source, prune_keep=keep)
                answer(folder / "served.db", night, holdout.pixels, schema.classes)
                if night + 1 in (30, 90, 180, 270, nights):
                    time.sleep(2 * VACUUM_SECONDS)
                    sizes = (f"{size(store) / 1e6:.1f} MB" for store in stores.values())
                    print(f"| {night + 1} | {' | '.join(sizes)} |", flush=True)
                age(folder)


def write_onnx(model: Any, *_: object) -> float:
    """Write the version's ONNX file, and leave out the two fresh processes, from which nothing stays on the disk."""
    from mnist_pipeline.tracking import models

    with tempfile.TemporaryDirectory() as folder:
        models.onnx_file(model.name, model.number, Path(folder))
    return 0.0


def prepare(home: Path) -> None:
    """Set the environment of a project at `home`, before Prefect and MLflow are imported."""
    os.environ |= {
        "MNIST_PIPELINE_HOME": str(home),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "PREFECT_HOME": str(home / ".prefect"),
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": str(VACUUM_SECONDS),
        "PREFECT_LOGGING_TO_CONSOLE": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    from flows import startup

    startup.set_environment()


@contextlib.contextmanager
def prefect_server() -> Iterator[None]:
    """Run a lasting server, as `make server` does, on a port of its own, which the flows then use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    os.environ["PREFECT_UI_URL"] = url
    server = subprocess.Popen([sys.executable, "-m", "flows.ui", "prefect"], stdout=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError):
                urlopen(f"{url}/api/health", timeout=5).close()
                break
            time.sleep(0.5)
        else:
            sys.exit("the Prefect server did not start")
        os.environ["PREFECT_API_URL"] = f"{url}/api"
        yield
    finally:
        server.terminate()
        server.wait()


def answer(file: Path, night: int, images: np.ndarray, classes: tuple[str, ...]) -> None:
    """Log a day's answers, of some of `images`, as the server does."""
    from mnist_pipeline.monitoring.log import ServedLog
    from mnist_pipeline.monitoring.served import Served

    rng = np.random.default_rng(night)
    with contextlib.closing(ServedLog(file, keep=KEPT)) as log:
        log.append(
            [
                Served(
                    id=rng.bytes(16).hex(),
                    model="mnist-mlp",
                    version=night + 1,
                    source="array",
                    pixels=images[number],
                    classes=classes,
                    probabilities=rng.dirichlet(np.ones(10)).astype(np.float32),
                )
                for number in rng.choice(len(images), ANSWERS)
            ]
        )


def age(home: Path) -> None:
    """Make all that MLflow and Prefect have dated a day older."""
    with contextlib.closing(sqlite3.connect(home / "mlflow.db", timeout=60)) as database, database:
        for table, columns in AGES.items():
            database.execute(f"UPDATE {table} SET " + ", ".join(f"{name} = {name} - {1000 * DAY}" for name in columns))
    with contextlib.closing(sqlite3.connect(home / ".prefect" / "prefect.db", timeout=60)) as database, database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [
                name
                for _, name, kind, *_ in database.execute(f"PRAGMA table_info({table})")
                if kind == "DATETIME" and name != "total_run_time"  # a duration
            ]
            changes = (f"{name} = date(substr({name}, 1, 10), '-1 day') || substr({name}, 11)" for name in columns)
            if columns:
                database.execute(f"UPDATE {table} SET {', '.join(changes)}")


def size(path: Path) -> int:
    files = [*path.rglob("*")] if path.is_dir() else [*path.parent.glob(f"{path.name}*")]  # its WAL included
    return sum(each.stat().st_size for each in files if each.is_file())


if __name__ == "__main__":
    begun = time.perf_counter()
    cyclopts.run(main)
    print(f"{time.perf_counter() - begun:.0f} s")
