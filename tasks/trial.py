"""The task that tries one config, on whatever worker, and the questions about whether to prune it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import optuna
from distributed import Client, Queue
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_logger

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data import mnist
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Examples, load_splits, validation_split
from mnist_pipeline.environment import amend_environment
from mnist_pipeline.tracking import runs
from mnist_pipeline.training.loop import fit
from mnist_pipeline.training.model import MLP
from mnist_pipeline.training.search import Outcome


@task(name="trial", task_run_name="trial-{number}", cache_policy=NO_CACHE)
def trial(
    number: int,
    config: TrainConfig,
    source: DataSource,
    *,
    data_sha256: str,
    sweep: str,
    process: str,
    tracking_uri: str,
) -> Outcome:
    """Train with `config` on four fifths of the training split, and score on the rest; only numbers are returned.

    A worker fetches the data itself, and checks by `data_sha256`, of the training split, that they are the sweep's.
    A trial that is run again, as its worker was killed, reopens its own MLflow run, a child of the run `sweep`. If the
    sweep's `process` is killed, that run is closed with its own.
    """
    amend_environment()  # a worker that was started by Dask's own command has the user's
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    training, validation, classes = _parts(source, data_sha256)
    mlp = MLP.from_config(config, inputs=training.images[0].numel(), outputs=classes)
    accuracy, val = 0.0, (validation.images, validation.labels)
    with runs.start_trial(sweep, number, config, process=process) as run:
        for epoch in fit(mlp, training.images, training.labels, config, val=val):
            assert epoch.val
            accuracy = epoch.val.accuracy
            run.log_epoch(epoch)
            if epoch.number < config.epochs and _should_prune(sweep, number, epoch.number, accuracy):
                run.set_tags({"trial_state": "pruned"})
                return Outcome(accuracy, pruned=True)
        run.set_tags({"trial_state": "finished"})
    return Outcome(accuracy)


@cache
def _parts(source: DataSource, data_sha256: str) -> tuple[Examples, Examples, int]:
    """Return the training and validation parts and the number of classes, read once per worker."""
    splits = load_splits(source, mnist.download(source))
    if splits.train.sha256 != data_sha256:
        raise ValueError(f"the data in {source.folder} on this worker differ from those that the sweep started with")
    classes = len(splits.schema.classes)
    return *validation_split(splits.train, classes=classes), classes


def _should_prune(sweep: str, number: int, epoch: int, accuracy: float) -> bool:
    """Ask the sweep's own process, which alone has the study."""
    answers = Queue(f"{sweep}-answer-{number}")
    Queue(f"{sweep}-reports").put((number, epoch, accuracy))
    while True:
        answered, prune = answers.get()
        if answered == epoch:  # and not what a worker asked that was killed before it heard
            return bool(prune)


@contextmanager
def answer_pruning_questions(trials: dict[int, optuna.Trial], client: Client, sweep: str) -> Iterator[None]:
    """Answer, within the block, the workers that ask whether to prune their trial."""
    reports = Queue(f"{sweep}-reports", client=client)

    def answer() -> None:
        while (report := reports.get()) is not None:
            number, epoch, accuracy = report
            prune = False
            try:
                trials[number].report(accuracy, epoch)
                prune = trials[number].should_prune()
            except Exception as error:  # whoever asks waits for an answer
                get_logger("trial").warning(f"Trial {number} is not pruned, as the study cannot be asked: {error}")
            Queue(f"{sweep}-answer-{number}", client=client).put((epoch, prune))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        reports.put(None)
        thread.join(timeout=10)
