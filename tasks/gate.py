"""The tasks that decide whether a new version becomes the champion, and prune old ones."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline.config import Gate
from mnist_pipeline.data.splits import Examples
from mnist_pipeline.tracking import gate as gate_checks
from mnist_pipeline.tracking import models, pruning, reload_check, store
from mnist_pipeline.tracking.gate import Decision
from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.registry import ModelVersion, Registry
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.evaluation import Evaluation, evaluate
from tasks.champion_lock import champion_lock
from tasks.report import decision


@task(name="reload", task_run_name="reload", cache_policy=NO_CACHE)
def reload(model: ModelVersion, holdout: Examples, evaluation: Evaluation) -> float:
    """Return the largest difference between the probabilities of `evaluation` and those in fresh processes.

    One loads the registered model; the other has onnxruntime alone, and the version's ONNX file.
    """

    def probabilities(model: str) -> np.ndarray:
        return reload_check.reloaded_probabilities(model, store.tracking_uri(), holdout.pixels.numpy())

    def gap(reloaded: Callable[[], np.ndarray]) -> float:
        try:
            return float(np.abs(reloaded() - evaluation.probabilities.numpy()).max())
        except ValueError as error:
            get_run_logger().warning(str(error))
            return float("inf")

    with ThreadPoolExecutor(1) as pool, tempfile.TemporaryDirectory() as folder:
        registered = pool.submit(probabilities, model.uri)  # while the ONNX file is made
        onnx = gap(lambda: probabilities(str(models.onnx_file(model.name, model.number, Path(folder)))))
        return max(onnx, gap(registered.result))


@task(name="gate", task_run_name="gate", cache_policy=NO_CACHE, log_prints=True)
def decide(
    model: ModelVersion, holdout: Examples, evaluation: Evaluation, gate: Gate, run: Run, *, reload_gap: float
) -> tuple[LedgerEntry, Evaluation | None]:
    """Compare `model`, whose `evaluation` on `holdout` is given, with the champion: promote it or not.

    Return the decision, and the champion's evaluation if it was made.
    """
    registry = Registry(model.name)
    opponent: Evaluation | None = None

    def compare(champion: int | None) -> Decision:
        nonlocal opponent
        if champion is not None:
            predict = models.load_network(registry.uri(champion))
            opponent = evaluate(predict(holdout.pixels), holdout.labels, evaluation.classes)
        return gate_checks.decide(evaluation, opponent, holdout.labels, gate, reload_gap=reload_gap)

    with champion_lock(registry):
        entry = registry.evaluate_challenger(model.number, compare, holdout_sha256=holdout.sha256)
    run.log_metrics({f"gate/{name}": value for name, value in entry.numbers.items()}, step=0)
    print(decision(entry))
    return entry, opponent


def check_champion(registry: Registry) -> None:
    """Raise `ValueError` before a training if the gate could not compare with the champion after it."""
    if champion := registry.champion:
        try:
            models.load_network(registry.uri(champion))
        except ValueError as error:
            remedy = f"rename {registry.name} in MLflow's UI, so that a new model is begun"
            raise ValueError(f"{error}; if model.py has another network now, {remedy}") from None


@task(name="prune", task_run_name="prune", cache_policy=NO_CACHE, log_prints=True)
def prune(registry: Registry, *, keep: int, older_than: timedelta = timedelta(days=30)) -> None:
    """Delete the models and runs of old versions, but for the latest `keep`."""
    with champion_lock(registry):
        for version in pruning.old_versions(registry, keep=keep, older_than=older_than):
            pruning.prune(registry, version)
            print(f"Version {version} was pruned")
