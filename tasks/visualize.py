"""The task that draws the run's figures."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.data.splits import Examples
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training import plots
from mnist_pipeline.training.evaluation import Evaluation
from mnist_pipeline.training.loop import Epoch


@task(name="visualize", task_run_name="visualize", cache_policy=NO_CACHE)
def visualize(epochs: list[Epoch], examples: Examples, evaluation: Evaluation, run: Run) -> None:
    """Log the loss curve, and of `examples` ten predictions, the confusion matrix and the most confident mistakes."""
    images, labels = examples.images.numpy(), examples.labels.numpy()
    probabilities = evaluation.probabilities.numpy()
    classes = evaluation.classes
    predicted = probabilities[:10].argmax(axis=1)
    run.log_figure(plots.predictions(images[:10], labels[:10], predicted, classes), "predictions")
    run.log_figure(plots.loss_curve([epoch.train_loss for epoch in epochs]), "loss_curve")
    run.log_figure(plots.confusion_matrix(evaluation.confusion, classes), "confusion_matrix")
    run.log_figure(plots.confident_mistakes(images, labels, probabilities, classes), "confident_mistakes")
