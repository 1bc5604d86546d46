"""The task that logs the model and registers it."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.data import Examples
from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.model import MLP
from mnist_pipeline.registry import ModelVersion, Registry
from mnist_pipeline.tracking import Run


@task(name="register", task_run_name="register", cache_policy=NO_CACHE)
def register(
    mlp: MLP, examples: Examples, test: Evaluation, exam: Evaluation, registry: Registry, run: Run, *, epoch: int
) -> ModelVersion:
    """Register the network after `epoch` epochs, with a few of `examples` to show its input."""
    model_uri = run.log_model(mlp, examples.images[:10], step=epoch)
    return registry.register(
        run,
        model_uri,
        description=f"Test {test}, exam {exam}; trained by run `{run.id}`.",
        tags={"test_accuracy": f"{test.accuracy:.4f}", "exam_accuracy": f"{exam.accuracy:.4f}"},
    )
