"""Retrain, on a schedule or once: train, and promote the new version only if the gate finds it no worse."""

if __name__ == "__main__":  # first of all, so that the Prefect API boots while the imports below load
    from flows import command_line

    command_line.run(command_line.retrain, command_line.history, command_line.rollback, command_line.promote)

from dataclasses import dataclass, replace

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from flows.parameters import Config
from flows.train_flow import Trained, train_and_register
from mnist_pipeline import unfinished
from mnist_pipeline.config import DataSource, Gate, TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.provenance import fingerprint
from mnist_pipeline.registry import Entry, Registry
from mnist_pipeline.store import unfinished_folder
from mnist_pipeline.tracking import Run
from tasks.download import download
from tasks.gate import decide, reload
from tasks.notify import KEPT, notify_of_state
from tasks.report import report_decision, report_results
from tasks.split import split
from tasks.track import end_mlflow_run, mlflow_run, sign_on


@dataclass(frozen=True)
class Retrained:
    """What a training made, and what the gate said of it."""

    trained: Trained
    entry: Entry


@flow(
    name="retrain",
    flow_run_name="{config}",
    on_completion=[notify_of_state],
    on_failure=[end_mlflow_run, notify_of_state],
    on_crashed=[end_mlflow_run, notify_of_state],
    on_cancellation=[end_mlflow_run],
)
def retrain_flow(
    config: Config = TrainConfig(),
    source: DataSource = DataSource(),
    gate: Gate = Gate(),
    *,
    fresh: bool = False,
    skip_unchanged: bool = False,
) -> State[Retrained]:
    """Train, and let the gate decide whether the new version becomes the champion; one retraining at a time."""
    sign_on()
    with unfinished.alone(unfinished_folder(), at="retraining") as alone:
        if not alone:
            return Cancelled(message="Another retraining is going on")
        registry = Registry(source.model_name)
        splits = split(download(source), source)
        if skip_unchanged and registry.champion_fingerprint() == fingerprint(config, splits):
            return Completed(name="Skipped", message=f"Config, data and code made version {registry.champion} already")
        with mlflow_run(config, source, splits, fresh=fresh) as run:
            retrained = train_and_judge(config, splits, registry, gate, run)
    entry = retrained.entry
    return Completed(name="Promoted" if entry.promoted else KEPT, message="; ".join(entry.reasons), data=retrained)


def train_and_judge(config: TrainConfig, splits: Splits, registry: Registry, gate: Gate, run: Run) -> Retrained:
    """Train, register, and let the gate decide: the way of every candidate."""
    trained = train_and_register(config, splits, registry, run)
    gap = reload(trained.model, splits.exam, trained.exam)
    entry = decide(trained.model, splits.exam, trained.exam, gate, run, reload_gap=gap, epoch=config.epochs)
    trained = replace(trained, model=replace(trained.model, alias=entry.alias))
    report_results(trained.test, trained.exam, trained.model, run)
    report_decision(entry, run)
    return Retrained(trained, entry)
