"""The task that trains."""

import time
from collections.abc import Iterable, Iterator

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import Progress

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.loop import Epoch, fit
from mnist_pipeline.training.model import MLP


@task(name="train", task_run_name="train", cache_policy=NO_CACHE, log_prints=True)
def train(splits: Splits, config: TrainConfig, run: Run) -> tuple[MLP, list[Epoch]]:
    """Train the network that `config` describes on the training split, and log each epoch as it ends."""
    examples, schema = splits.train, splits.schema
    mlp = MLP.from_config(config, inputs=schema.height * schema.width, outputs=len(schema.classes))
    epochs = []
    training = fit(mlp, examples.images, examples.labels, config, checkpoint=run.checkpoint)
    for epoch in _with_progress_artifact(_with_progress_bar(training, config.epochs), config.epochs):
        run.log_epoch(epoch)
        epochs.append(epoch)
    return mlp, epochs


def _with_progress_artifact(epochs: Iterable[Epoch], total: int) -> Iterator[Epoch]:
    """Show the progress on the flow run's page, updated at most once a second and at the end."""
    artifact = create_progress_artifact(0.0, key="training-progress", description=f"{total} epochs")
    updated = time.monotonic()
    for epoch in epochs:
        if time.monotonic() - updated > 1 or epoch.number == total:
            updated = time.monotonic()
            description = f"Epoch {epoch.number} of {total}, loss {epoch.train_loss:.3f}"
            update_progress_artifact(artifact, 100 * epoch.number / total, description=description)  # type: ignore[arg-type]
        yield epoch


def _with_progress_bar(epochs: Iterable[Epoch], total: int) -> Iterator[Epoch]:
    """Show a progress bar in a terminal, and print the tutorial's line for each epoch elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Training", total=total)
        for epoch in epochs:
            line = f"Epoch: {epoch.number}/{total}, Loss: {epoch.last_batch_loss:.3f}"
            progress.update(bar, description=line, advance=1)
            if not console.is_terminal:
                print(line)
            yield epoch
