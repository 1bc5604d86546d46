"""Train once: download → split → validate → train → evaluate → visualize → register."""

if __name__ == "__main__":  # first of all, so that the Prefect API boots while the imports below load
    from flows import command_line

    command_line.run(command_line.train)

from dataclasses import dataclass, replace

from prefect import flow

from flows.parameters import Config
from mnist_pipeline.config import DataSource, TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.registry import ModelVersion, Registry
from mnist_pipeline.tracking import Run
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.notify import notify_of_state
from tasks.register import register
from tasks.report import report_results
from tasks.split import split
from tasks.track import end_mlflow_run, mlflow_run, sign_on
from tasks.train import train
from tasks.validate import validate
from tasks.visualize import visualize


@dataclass(frozen=True)
class Trained:
    """What a training made."""

    test: Evaluation
    exam: Evaluation
    model: ModelVersion
    run: Run


@flow(
    name="train",
    flow_run_name="{config}",
    on_failure=[end_mlflow_run, notify_of_state],
    on_crashed=[end_mlflow_run, notify_of_state],
    on_cancellation=[end_mlflow_run],
)
def train_flow(config: Config = TrainConfig(), source: DataSource = DataSource(), *, fresh: bool = False) -> Trained:
    """Train a multilayer perceptron on MNIST, track the run in MLflow and register the model."""
    sign_on()
    splits = split(download(source), source)
    registry = Registry(source.model_name)
    with mlflow_run(config, source, splits, fresh=fresh) as run:
        trained = train_and_register(config, splits, registry, run)
        trained = replace(trained, model=registry.promote_first(trained.model))
        report_results(trained.test, trained.exam, trained.model, run)
    return trained


def train_and_register(config: TrainConfig, splits: Splits, registry: Registry, run: Run) -> Trained:
    """Look at the data, train, score, draw, and register as challenger: what every flow does that trains."""
    validate(splits, registry, run)
    mlp, epochs = train(splits, config, run)
    test, exam = evaluate(mlp, splits, run, epoch=config.epochs)
    visualize(epochs, splits.test, test, run)
    model = register(mlp, splits, test, exam, registry, run, epoch=config.epochs)
    return Trained(test, exam, model, run)
