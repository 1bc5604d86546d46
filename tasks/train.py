"""The task that trains."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, cast

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from rich.console import Console
from rich.progress import Progress

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.splits import Splits, validation_split
from mnist_pipeline.text import listed, percent
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.calibration import calibrate
from mnist_pipeline.training.loop import Epoch, adapt_batch_size, best_epoch, fit, without_validation
from mnist_pipeline.training.model import MLP
from tasks.console import Terminal

FEW = 20  # images to train on a class, below which no recipe learns it well


@dataclass(frozen=True)
class Training:
    """What a training made."""

    mlp: MLP
    epochs: list[Epoch]
    best_epoch: int | None = None  # whose weights `mlp` has; none for the last one's, without patience
    stopped: str = ""  # why it ended early, if it did


def adapt_to_data(config: TrainConfig, splits: Splits) -> TrainConfig:
    """Return `config` with a batch size that fits the training split; warn of a class with too few images."""
    fitted = adapt_batch_size(config, images=len(splits.train))
    if fitted != config:
        get_run_logger().info(
            f"Batches of {fitted.batch_size} rather than {config.batch_size}, for enough steps an epoch: there are "
            f"{without_validation(config, len(splits.train)):,} images to train on"
        )
    counts = splits.train.labels.bincount(minlength=len(splits.schema.classes)).tolist()
    if few := [f"{name} ({n})" for name, n in zip(splits.schema.classes, counts, strict=True) if n < FEW]:
        get_run_logger().warning(
            f"These classes have fewer than {FEW} images to train on, from which no recipe learns a class well: "
            f"{listed(few)}. Add images, or leave these classes out"
        )
    return fitted


@task(name="train", task_run_name="train", cache_policy=NO_CACHE, log_prints=True)
def train(splits: Splits, config: TrainConfig, run: Run) -> Training:
    """Train the network that `config` describes on the training split, and log each epoch as it ends.

    At the end, the network's temperature is fitted on the validation part, or on the test split if there is none.
    """
    schema, test, part = splits.schema, splits.test, splits.train
    val, calibration_part = None, test
    if config.validation:
        part, calibration_part = validation_split(part, classes=len(schema.classes), share=config.validation)
        val = calibration_part.images, calibration_part.labels
    mlp = MLP.from_config(config, inputs=schema.height * schema.width, outputs=len(schema.classes))
    if config.compile:
        print("The training step is being compiled, which takes up to a minute the first time")
    fitting = fit(
        mlp, part.images, part.labels, config, val=val, test=(test.images, test.labels), checkpoint=run.checkpoint
    )
    epochs = []
    for epoch in _with_progress_artifact(_with_progress_bar(fitting, config.epochs), config.epochs):
        run.log_epoch(epoch)
        epochs.append(epoch)
    best, stopped = None, ""
    if config.patience:
        best = best_epoch(epochs)
        if len(epochs) < config.epochs:
            stopped = f"no lower validation loss in the last {config.patience} of {len(epochs)} epochs"
        why = f"Stopped early, with {stopped}. " if stopped else ""
        print(f"{why}The weights are those of epoch {best}, which has the lowest validation loss")
        run.set_tags({"best_epoch": str(best), "stopped": stopped})
    temperature = calibrate(mlp, calibration_part.images, calibration_part.labels)
    run.log_metrics({"temperature": temperature}, step=len(epochs))
    name = "validation part" if val else "test split"
    print(f"The temperature is {temperature:.2f}, fitted on {len(calibration_part):,} images of the {name}")
    return Training(mlp, epochs, best, stopped)


def _with_progress_artifact(epochs: Iterable[Epoch], total: int) -> Iterator[Epoch]:
    """Show the progress on the flow run's page, updated at most once a second and at the end."""
    artifact = create_progress_artifact(0.0, key="training-progress", description=f"{total} epochs")
    updated, description = time.monotonic(), ""
    for epoch in epochs:
        description = _describe(epoch, total)
        if time.monotonic() - updated > 1:
            updated = time.monotonic()
            update_progress_artifact(artifact, 100 * epoch.number / total, description=description)  # type: ignore[arg-type]
        yield epoch
    update_progress_artifact(artifact, 100.0, description=description)  # type: ignore[arg-type]


def _with_progress_bar(epochs: Iterable[Epoch], total: int) -> Iterator[Epoch]:
    """Show a progress bar in a terminal, and print a line for each epoch elsewhere."""
    console = Console(file=cast(IO[str], Terminal()))
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Training", total=total)
        for epoch in epochs:
            line = _describe(epoch, total)
            progress.update(bar, description=line, advance=1)
            if not console.is_terminal:
                print(line)
            yield epoch


def _describe(epoch: Epoch, total: int) -> str:
    """Return the tutorial's line, with the mean loss and the accuracies added."""
    scores = {"test": epoch.test, "validation": epoch.val}
    accuracies = "".join(f", {name} {percent(score.accuracy)}" for name, score in scores.items() if score)
    loss = f"Loss: {epoch.last_batch_loss:.3f} (mean {epoch.train_loss:.3f})"
    return f"Epoch: {epoch.number}/{total}, {loss}{accuracies}"
