"""The tasks that decide whether a new version becomes the champion."""

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline import promotion, reload_check, store, tracking
from mnist_pipeline.config import Gate
from mnist_pipeline.data import Examples
from mnist_pipeline.evaluation import Evaluation, evaluate
from mnist_pipeline.promotion import Decision
from mnist_pipeline.registry import Entry, ModelVersion, Registry
from mnist_pipeline.tracking import Run


@task(name="reload", task_run_name="reload", cache_policy=NO_CACHE)
def reload(model: ModelVersion, exam: Examples, evaluation: Evaluation) -> float:
    """Give the largest difference between the probabilities of `evaluation` and those that a stranger gets."""
    try:
        probabilities = reload_check.probabilities_elsewhere(model.uri, store.tracking_uri(), exam.pixels.numpy())
    except ValueError as error:
        get_run_logger().warning(str(error))
        return float("inf")
    return float(np.abs(probabilities - evaluation.probabilities.numpy()).max())


@task(name="gate", task_run_name="gate", cache_policy=NO_CACHE, log_prints=True)
def decide(
    model: ModelVersion, exam: Examples, evaluation: Evaluation, gate: Gate, run: Run, *, reload_gap: float, epoch: int
) -> Entry:
    """Compare `model`, whose `evaluation` on `exam` is given, with the champion: promote it or not."""
    registry = Registry(model.name)

    def judge(champion: int | None) -> Decision:
        scored = None
        if champion is not None:
            predict = tracking.load_network(registry.uri(champion))
            scored = evaluate(predict(exam.pixels), exam.labels, evaluation.classes)
        return promotion.decide(evaluation, scored, exam.labels, gate, reload_gap=reload_gap)

    entry = registry.settle(model.number, judge, exam_sha256=exam.sha256)
    run.log_metrics({f"gate/{name}": value for name, value in entry.numbers.items()}, step=epoch)
    print(f"Version {entry.version} {entry.action}: {'; '.join(entry.reasons)}")
    return entry
