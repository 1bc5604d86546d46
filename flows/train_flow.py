"""Train once: download → split → validate → train → evaluate → visualize → register."""

from flows import cli, startup

if __name__ == "__main__":  # before the other imports: a bad option ends at once, and the Prefect API boots during them
    options = cli.start(cli.train)

from dataclasses import dataclass, replace
from typing import Annotated, Any

from prefect import flow
from pydantic import BeforeValidator

from mnist_pipeline.config import REFERENCE, ROOT, TrainConfig, config_from
from mnist_pipeline.data.mnist import import_readers
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.registry import ModelVersion
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.evaluation import Evaluation
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.notify import notify_of_state
from tasks.register import promote_first, register
from tasks.report import report_results
from tasks.split import split
from tasks.track import mlflow_run, reconcile_runs
from tasks.train import train
from tasks.validate import validate
from tasks.visualize import visualize


def _config_from_json(value: Any) -> Any:
    return config_from(value) if isinstance(value, dict) else value


# A config as JSON, from a schedule, a deployment or Prefect's UI, need only name what differs from its recipe.
Config = Annotated[TrainConfig, BeforeValidator(_config_from_json)]


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    test: Evaluation
    holdout: Evaluation
    model: ModelVersion
    run: Run

    def __str__(self) -> str:
        browse = f"make -C {ROOT} ui\nthen              {self.run.url}" if store.is_local() else self.run.url
        return f"""\
Test accuracy     {self.test}
Holdout accuracy  {self.holdout}
Model             {self.model.uri}, {self.model.alias_uri}
MLflow run        {self.run.id}
Figures           {self.run.artifacts}/figures
To browse         {browse}"""


@flow(
    name="train",
    flow_run_name="{config}",
    on_failure=[notify_of_state],
    on_crashed=[notify_of_state],
)
def train_flow(config: Config = REFERENCE, source: DataSource = DataSource(), *, fresh: bool = False) -> Trained:
    """Train a multilayer perceptron on MNIST, track the run in MLflow and register the model."""
    reconcile_runs()
    splits = split(download(source), source)
    with mlflow_run(config, splits, fresh=fresh) as run:
        trained = train_and_register(config, splits, run)
        trained = replace(trained, model=promote_first(trained.model))
        report_results(trained.test, trained.holdout, trained.model, run)
    return trained


def train_and_register(config: TrainConfig, splits: Splits, run: Run) -> Trained:
    """Validate the data, train, evaluate, draw, and register as challenger: what every flow does that trains."""
    validate(splits, run)
    mlp, epochs = train(splits, config, run)
    test, holdout = evaluate(mlp, splits, run, epoch=config.epochs)
    visualize(epochs, splits.test, test, run)
    model = register(mlp, splits, (test, holdout), run, epoch=config.epochs)
    return Trained(test, holdout, model, run)


if __name__ == "__main__":
    import_readers()
    with startup.command():
        trained = train_flow(**options)
    print(f"\n{trained}")
