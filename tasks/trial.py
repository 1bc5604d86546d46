"""The task that tries one config, on whatever worker, and the talk about whether it is worth going on."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import optuna
from distributed import Client, Queue
from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline import data, datasets, tracking
from mnist_pipeline.config import DataSource, TrainConfig
from mnist_pipeline.data import Examples
from mnist_pipeline.evaluation import evaluate, predict
from mnist_pipeline.model import MLP
from mnist_pipeline.search import Outcome
from mnist_pipeline.training import fit


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
    """Train with `config` on the larger part of the training split, and score on the rest: numbers go back, no tensors.

    A worker fetches the data itself, and makes sure that they are those of the sweep: `data_sha256` names its training
    split. A trial that is run again, as its worker was killed, goes on in its own MLflow run, a child of the run
    `sweep`. Should the sweep's `process` be killed, that run is closed with its own.
    """
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    training, validation, classes = _parts(source, data_sha256)
    mlp = MLP.from_config(config, inputs=training.images[0].numel(), outputs=classes)
    accuracy = 0.0
    with tracking.start_trial(sweep, number, config, process=process) as run:
        for epoch in fit(mlp, training.images, training.labels, config):
            scored = evaluate(predict(mlp, validation.images), validation.labels)
            accuracy = scored.accuracy
            numbers = {"train_loss": epoch.train_loss, "val_accuracy": accuracy, "val_loss": scored.loss}
            run.log_metrics(numbers, step=epoch.number)
            if epoch.number < config.epochs and _is_hopeless(sweep, number, epoch.number, accuracy):
                run.set_tags({"trial_state": "pruned"})
                return Outcome("pruned", accuracy)
        run.set_tags({"trial_state": "finished"})
    return Outcome("finished", accuracy)


@cache
def _parts(source: DataSource, data_sha256: str) -> tuple[Examples, Examples, int]:
    """Read the data once a worker; cut the validation part from the training split. The number of classes is last."""
    splits = datasets.prepare(source, data.download(source))
    if splits.train.sha256 != data_sha256:
        raise ValueError(f"the data in {source.folder} are not the same on this worker as where the sweep was started")
    return *data.hold_out(splits.train), len(splits.schema.classes)


def _is_hopeless(sweep: str, number: int, epoch: int, accuracy: float) -> bool:
    """Ask the sweep's own process, which alone has the study."""
    Queue(f"{sweep}-reports").put((number, epoch, accuracy))
    return bool(Queue(f"{sweep}-verdict-{number}").get())


@contextmanager
def judging(trials: dict[int, optuna.Trial], client: Client, sweep: str) -> Iterator[None]:
    """Answer, meanwhile, the workers that ask whether their trial is worth going on."""
    reports = Queue(f"{sweep}-reports", client=client)

    def answer() -> None:
        while (report := reports.get()) is not None:
            number, epoch, accuracy = report
            trials[number].report(accuracy, epoch)
            Queue(f"{sweep}-verdict-{number}", client=client).put(trials[number].should_prune())

    judge = threading.Thread(target=answer, daemon=True)
    judge.start()
    try:
        yield
    finally:
        reports.put(None)
        judge.join(timeout=10)
