"""The task that evaluates the trained network."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training import evaluation
from mnist_pipeline.training.evaluation import Evaluation
from mnist_pipeline.training.model import MLP


@task(name="evaluate", task_run_name="evaluate", cache_policy=NO_CACHE, log_prints=True)
def evaluate(mlp: MLP, splits: Splits, run: Run, *, epoch: int) -> tuple[Evaluation, Evaluation]:
    """Evaluate the network after `epoch` epochs on the test split and on the holdout."""
    test, holdout = (
        evaluation.evaluate(evaluation.predict(mlp, part.images), part.labels, splits.schema.classes)
        for part in (splits.test, splits.holdout)
    )
    run.log_metrics(test.metrics("test") | holdout.metrics("holdout"), step=epoch)
    print(f"Test accuracy: {test}")
    print(f"Holdout accuracy: {holdout}")
    return test, holdout
