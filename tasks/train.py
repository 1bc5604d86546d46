"""The task that trains."""

import time
from collections.abc import Iterable, Iterator

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import Progress

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.model import MLP
from mnist_pipeline.tracking import Run
from mnist_pipeline.training import Epoch, fit


@task(name="train", task_run_name="train", cache_policy=NO_CACHE, log_prints=True)
def train(splits: Splits, config: TrainConfig, run: Run) -> tuple[MLP, list[Epoch]]:
    """Train the network that `config` describes on the training split, and log each epoch as it ends."""
    examples, schema = splits.train, splits.schema
    mlp = MLP.from_config(config, inputs=schema.height * schema.width, outputs=len(schema.classes))
    epochs = []
    training = fit(mlp, examples.images, examples.labels, config, checkpoint=run.checkpoint)
    for epoch in _reported(_shown(training, config.epochs), config.epochs):
        run.log_epoch(epoch)
        epochs.append(epoch)
    return mlp, epochs


def _reported(epochs: Iterable[Epoch], total: int) -> Iterator[Epoch]:
    """Show on the flow run's page how far the training has come, at most once a second and at its end."""
    page = create_progress_artifact(0.0, key="training-progress", description=f"Of {total} epochs")
    told = time.monotonic()
    for epoch in epochs:
        if time.monotonic() - told > 1 or epoch.number == total:
            told = time.monotonic()
            words = f"Epoch {epoch.number} of {total}, loss {epoch.train_loss:.3f}"
            update_progress_artifact(page, 100 * epoch.number / total, description=words)  # type: ignore[arg-type]
        yield epoch


def _shown(epochs: Iterable[Epoch], total: int) -> Iterator[Epoch]:
    """Show a progress bar on a terminal, and the tutorial's line for each epoch elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Training", total=total)
        for epoch in epochs:
            line = f"Epoch: {epoch.number}/{total}, Loss: {epoch.last_batch_loss:.3f}"
            progress.update(bar, description=line, advance=1)
            if not console.is_terminal:
                print(line)
            yield epoch
