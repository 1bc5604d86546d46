"""Train once: download → split → train → evaluate → visualize → register."""

if __name__ == "__main__":  # first of all, so that the Prefect API boots while the imports below load
    from flows import command_line

    command_line.run(command_line.train)

from dataclasses import asdict, dataclass

from prefect import flow

from mnist_pipeline.config import DataSource, TrainConfig
from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.provenance import provenance
from mnist_pipeline.tracking import ModelVersion, Run, start_run
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.register import register
from tasks.report import end_mlflow_run, flow_run_tags, report_results
from tasks.split import split
from tasks.train import train
from tasks.visualize import visualize


@dataclass(frozen=True)
class Trained:
    """What a run of the flow made."""

    test: Evaluation
    exam: Evaluation
    model: ModelVersion
    run: Run


@flow(name="train", on_failure=[end_mlflow_run], on_crashed=[end_mlflow_run])
def train_flow(config: TrainConfig = TrainConfig(), source: DataSource = DataSource()) -> Trained:
    """Train a multilayer perceptron on MNIST, track the run in MLflow and register the model."""
    with start_run(params={"recipe": config.recipe} | asdict(config), tags=provenance() | flow_run_tags()) as run:
        files = download(source)
        splits = split(files, source.dataset, run)
        mlp, epochs = train(splits.train, config, run)
        test, exam = evaluate(mlp, splits, run, epoch=config.epochs)
        visualize(epochs, splits.test, test, run)
        model = register(mlp, splits.test, test, exam, run, epoch=config.epochs)
        report_results(test, exam, model, run)
    return Trained(test, exam, model, run)
