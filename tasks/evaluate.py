"""The task that evaluates the trained network."""

import statistics
from dataclasses import asdict

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline.data.splits import Splits
from mnist_pipeline.text import percent
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training import evaluation
from mnist_pipeline.training.evaluation import Evaluation
from mnist_pipeline.training.model import MLP


@task(name="evaluate", task_run_name="evaluate", cache_policy=NO_CACHE, log_prints=True)
def evaluate(mlp: MLP, splits: Splits, run: Run, *, epoch: int) -> tuple[Evaluation, Evaluation]:
    """Evaluate the network after `epoch` epochs on the test split and on the holdout.

    Its metrics are those of the next step: the last epoch's own, of the same name, are without test-time augmentation
    and temperature.
    """
    test, holdout = (
        evaluation.evaluate(evaluation.predict(mlp, part.images), part.labels, splits.schema.classes)
        for part in (splits.test, splits.holdout)
    )
    run.log_metrics(test.metrics("test") | holdout.metrics("holdout"), step=epoch + 1)
    sets = {"test": test, "holdout": holdout}
    run.log_table([{"set": name, **row} for name, part in sets.items() for row in part.by_class()], "classes")
    covered = evaluation.coverage(holdout.probabilities, splits.holdout.labels)
    run.log_table([asdict(row) | {"share": row.share, "accuracy": row.accuracy} for row in covered], "coverage")
    print(f"Test accuracy: {test}")
    print(f"Holdout accuracy: {holdout}")
    if not holdout.beats_guessing:
        get_run_logger().warning(
            f"The model is not significantly better than guessing: always answering with the most frequent class is "
            f"right on {percent(holdout.guess_accuracy)} of the holdout. It cannot become the first champion"
        )
    return test, holdout


def summarize_seeds(results: list[tuple[Evaluation, Evaluation]], run: Run, *, first: int) -> str:
    """Log the mean and standard deviation of trainings that differ in their seed, from `first` on, and return them."""
    rows = [test.metrics("test") | holdout.metrics("holdout") for test, holdout in results]
    run.log_table([{"seed": seed, **row} for seed, row in enumerate(rows, start=first)], "seeds")
    means = {name: statistics.mean(row[name] for row in rows) for name in rows[0]}
    spread = {name: statistics.stdev(row[name] for row in rows) for name in rows[0]}
    run.log_metrics({f"{name}_mean": value for name, value in means.items()}, step=0)
    run.log_metrics({f"{name}_sd": value for name, value in spread.items()}, step=0)
    parts = (
        f"{part} {100 * means[f'{part}_accuracy']:.2f} ± {100 * spread[f'{part}_accuracy']:.2f} %"
        for part in ("test", "holdout")
    )
    summary = f"{', '.join(parts)} (mean ± standard deviation); the first, seed {first}, is registered"
    run.set_tags({"mlflow.note.content": f"{len(rows)} trainings that differ in their seed alone: {summary}."})
    return summary
