"""The task that draws the run's figures."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.data.splits import Examples
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training import plots
from mnist_pipeline.training.evaluation import Evaluation, reliability
from mnist_pipeline.training.loop import Epoch


@task(name="visualize", task_run_name="visualize", cache_policy=NO_CACHE)
def visualize(
    epochs: list[Epoch], examples: Examples, evaluation: Evaluation, run: Run, *, best_epoch: int | None = None
) -> dict[str, bytes]:
    """Log the curves of the training, and of `examples` ten predictions, the confusion matrix and the reliability.

    Return the figures as PNG, by their names.
    """
    images, labels = examples.images[:10].numpy(), examples.labels[:10].numpy()
    predicted, classes = evaluation.probabilities[:10].argmax(dim=1).numpy(), evaluation.classes
    figures = {
        "predictions": plots.predictions(images, labels, predicted, classes),
        "curves": plots.curves(epochs, best_epoch),
        "confusion_matrix": plots.confusion_matrix(evaluation.confusion, classes),
        "reliability": plots.reliability(reliability(evaluation.probabilities, examples.labels)),
    }
    return {name: run.log_figure(figure, name) for name, figure in figures.items()}
