"""Train once: download → split → validate → train → evaluate → visualize → register → report."""

from flows import startup

if __name__ == "__main__":  # before the other imports: a signal or a bad option ends it at once, and the API boots
    startup.begin()
    from flows import cli

    options = cli.start(cli.train)

import shlex
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for
from pydantic import BeforeValidator

from flows import prefect_api
from mnist_pipeline.config import CODE, REFERENCE, TrainConfig, with_recipe
from mnist_pipeline.data.mnist import import_readers
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.process import python_command
from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.report import Report
from mnist_pipeline.tracking.runs import Run
from tasks.download import download
from tasks.evaluate import evaluate, summarize_seeds
from tasks.notify import notify_of_state
from tasks.register import promote_first, register
from tasks.report import report_results, write_report
from tasks.split import split
from tasks.track import mlflow_run, parent_run, reconcile_runs
from tasks.train import adapt_to_data, train
from tasks.validate import validate
from tasks.visualize import visualize


def _config_from_json(value: Any) -> Any:
    return with_recipe(value) if isinstance(value, dict) else value


# A config as JSON, from a schedule, a deployment or Prefect's UI, need only name what differs from its recipe; pydantic
# then checks all of it.
Config = Annotated[TrainConfig, BeforeValidator(_config_from_json)]


@dataclass(frozen=True, kw_only=True)
class Trained(Report):
    """The result of a training: what its report tells, and where it is recorded."""

    run: Run
    flow_run_url: str | None  # none without the decorator
    seeds: str = ""  # how much several trainings differ

    def __str__(self) -> str:
        seeds = f"All seeds         {self.seeds}\n" if self.seeds else ""
        return f"""\
Test accuracy     {self.test}
Holdout accuracy  {self.holdout}
{seeds}Model             {self.model.uri}, {self.model.alias_uri}
MLflow run        {self.run.id}
Report            {self.run.artifacts}/report.html
In MLflow         {_page(self.run.url, "mlflow" if store.is_local() else None)}
In Prefect        {_page(self.flow_run_url, None if prefect_api.has_ui() else "prefect")}"""


def _page(url: str | None, ui: str | None) -> str:
    """Return where a page opens, and how to start the UI that shows it if none is up."""
    if not ui:
        return f"{url}"
    command = f"{python_command()} -m flows.ui {ui}"
    if (CODE / "Makefile").exists():
        command = shlex.join(["make", "-C", str(CODE), {"mlflow": "ui", "prefect": "server"}[ui]])
    return f"{command}\n                  {url}"


@flow(
    name="train",
    flow_run_name="{config}",
    on_failure=[notify_of_state],
    on_crashed=[notify_of_state],
)
def train_flow(
    config: Config = REFERENCE, source: DataSource = DataSource(), *, fresh: bool = False, seeds: int = 1
) -> Trained:
    """Train a multilayer perceptron on MNIST, track the run in MLflow and register the model.

    With several `seeds`, train once with each, from the config's own on: the first is registered, the spread reported.
    """
    reconcile_runs()
    splits = split(download(source), source)
    config = adapt_to_data(config, splits)
    params, name = asdict(config) | {"seeds": seeds}, f"{config}, {seeds} seeds"
    several = parent_run(params, name=name, experiment=source.name) if seeds > 1 else nullcontext()
    with several as parent:
        with mlflow_run(config, splits, fresh=fresh, parent=parent) as run:
            trained = train_and_register(config, splits, run)
            trained = replace(trained, model=promote_first(trained.model, trained.holdout))
            report_results(trained, run)
            write_report(trained, splits, run)
        if parent:
            results = [(trained.test, trained.holdout)]
            for seed in range(config.seed + 1, config.seed + seeds):
                other = replace(config, seed=seed)
                with mlflow_run(other, splits, fresh=fresh, parent=parent) as run:
                    training = train(splits, other, run)
                    results.append(evaluate(training.mlp, splits, run, epoch=len(training.epochs)))
            trained = replace(trained, seeds=summarize_seeds(results, parent, first=config.seed))
    return trained


def train_and_register(config: TrainConfig, splits: Splits, run: Run) -> Trained:
    """Validate the data, train, evaluate, draw, and register as challenger: what every flow does that trains."""
    findings = validate(splits, run)
    training = train(splits, config, run)
    epochs, best_epoch = training.epochs, training.best_epoch
    test, holdout = evaluate(training.mlp, splits, run, epoch=len(epochs))
    figures = visualize(epochs, splits.test, test, run, best_epoch=best_epoch)
    model = register(training.mlp, splits, (test, holdout), run, epoch=best_epoch or len(epochs))
    return Trained(
        config=config,
        findings=findings,
        epochs=epochs,
        best_epoch=best_epoch,
        stopped=training.stopped,
        figures=figures,
        test=test,
        holdout=holdout,
        model=model,
        run=run,
        flow_run_url=url_for("flow-run", flow_run.id) if flow_run.id else None,
    )


if __name__ == "__main__":
    import_readers()
    with startup.command():
        trained = train_flow(**options)
    print(f"\n{trained}")
    if trained.model.alias != "champion":
        registry = Registry(trained.model.name)
        champion = f"version {registry.champion}" if registry.champion else "none"
        print(f"Champion          {champion}, as before; this makes the new version the champion:")
        print(f"                  {registry.promote_command(trained.model.number)}")
