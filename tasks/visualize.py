"""The task that draws the run."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline import plots
from mnist_pipeline.data import Examples
from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.tracking import Run
from mnist_pipeline.training import Epoch


@task(name="visualize", task_run_name="visualize", cache_policy=NO_CACHE)
def visualize(epochs: list[Epoch], examples: Examples, evaluation: Evaluation, run: Run) -> None:
    """Draw the loss curve, and on `examples`: ten predictions, the confusion matrix and the surest mistakes."""
    images, labels = examples.images.numpy(), examples.labels.numpy()
    probabilities = evaluation.probabilities.numpy()
    classes = evaluation.classes
    guesses = probabilities[:10].argmax(axis=1)
    run.log_figure(plots.predictions(images[:10], labels[:10], guesses, classes), "predictions")
    run.log_figure(plots.loss_curve([epoch.train_loss for epoch in epochs]), "loss_curve")
    run.log_figure(plots.confusion(evaluation.confusion, classes), "confusion_matrix")
    run.log_figure(plots.surest_mistakes(images, labels, probabilities, classes), "surest_mistakes")
