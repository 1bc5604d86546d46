"""The tasks that decide whether a new version becomes the champion."""

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline.config import Gate
from mnist_pipeline.data.splits import Examples
from mnist_pipeline.tracking import gate as gate_checks
from mnist_pipeline.tracking import models, reload_check, store
from mnist_pipeline.tracking.gate import Decision
from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.registry import ModelVersion, Registry
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.evaluation import Evaluation, evaluate
from tasks.champion_lock import champion_lock


@task(name="reload", task_run_name="reload", cache_policy=NO_CACHE)
def reload(model: ModelVersion, holdout: Examples, evaluation: Evaluation) -> float:
    """Return the largest difference between the probabilities of `evaluation` and those in a fresh process."""
    try:
        probabilities = reload_check.reloaded_probabilities(model.uri, store.tracking_uri(), holdout.pixels.numpy())
    except ValueError as error:
        get_run_logger().warning(str(error))
        return float("inf")
    return float(np.abs(probabilities - evaluation.probabilities.numpy()).max())


@task(name="gate", task_run_name="gate", cache_policy=NO_CACHE, log_prints=True)
def decide(
    model: ModelVersion, holdout: Examples, evaluation: Evaluation, gate: Gate, run: Run, *, reload_gap: float
) -> LedgerEntry:
    """Compare `model`, whose `evaluation` on `holdout` is given, with the champion: promote it or not."""
    registry = Registry(model.name)

    def compare(champion: int | None) -> Decision:
        opponent = None
        if champion is not None:
            predict = models.load_network(registry.uri(champion))
            opponent = evaluate(predict(holdout.pixels), holdout.labels, evaluation.classes)
        return gate_checks.decide(evaluation, opponent, holdout.labels, gate, reload_gap=reload_gap)

    with champion_lock(registry):
        entry = registry.evaluate_challenger(model.number, compare, holdout_sha256=holdout.sha256)
    run.log_metrics({f"gate/{name}": value for name, value in entry.numbers.items()}, step=0)
    print(f"Version {entry.version} {entry.action}: {'; '.join(entry.reasons)}")
    return entry
