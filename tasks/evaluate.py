"""The task that scores the trained network."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline import evaluation
from mnist_pipeline.data import Splits
from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.model import MLP
from mnist_pipeline.tracking import Run


@task(name="evaluate", task_run_name="evaluate", cache_policy=NO_CACHE, log_prints=True)
def evaluate(mlp: MLP, splits: Splits, run: Run, *, epoch: int) -> tuple[Evaluation, Evaluation]:
    """Score the network after `epoch` epochs on the test split and on the exam."""
    test, exam = (
        evaluation.evaluate(evaluation.predict(mlp, part.images), part.labels, splits.schema.classes)
        for part in (splits.test, splits.exam)
    )
    run.log_metrics(test.metrics("test") | exam.metrics("exam"), step=epoch)
    print(f"Test accuracy: {test}")
    print(f"Exam accuracy: {exam}")
    return test, exam
