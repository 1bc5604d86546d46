"""Retrain, once or on a schedule: train, and promote the new version only if the gate finds it no worse."""

from flows import startup

if __name__ == "__main__":  # before the other imports: a signal or a bad option ends it at once, and the API boots
    startup.begin()
    from flows import cli

    options = cli.start(cli.retrain)

import sys
from dataclasses import dataclass, replace
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from flows import schedule
from flows.train_flow import Config, Trained, train_and_register
from mnist_pipeline.config import MNIST_FLOOR, REFERENCE, Gate, TrainConfig
from mnist_pipeline.data.mnist import import_readers
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.processes import try_lock
from mnist_pipeline.tracking.provenance import fingerprint
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.tracking.store import in_progress_folder
from mnist_pipeline.tracking.versions import settled
from tasks.download import download
from tasks.gate import check_champion, decide, prune, reload
from tasks.notify import notify_of_state
from tasks.report import report_decision, report_results, write_report
from tasks.split import split
from tasks.track import mlflow_run, reconcile_runs, tag_flow_run
from tasks.train import adapt_to_data


@dataclass(frozen=True)
class Retrained:
    """The result of a training, and what the gate decided."""

    trained: Trained
    entry: LedgerEntry


@flow(
    name="retrain",
    flow_run_name="{config}",
    on_completion=[notify_of_state],
    on_failure=[notify_of_state],
    on_crashed=[notify_of_state],
)
def retrain_flow(
    config: Config = REFERENCE,
    source: DataSource = DataSource(),
    gate: Gate = Gate(),
    *,
    fresh: bool = False,
    skip_unchanged: bool = False,
    prune_keep: int | None = None,
) -> State[Retrained]:
    """Train, and let the gate decide whether the new version becomes the champion; one at a time of each model.

    With `prune_keep`, versions are then pruned that are older than a month, but for the latest so many.
    """
    reconcile_runs()
    registry = Registry(source.model_name)
    with try_lock(in_progress_folder(), f"retraining-{registry.name}") as acquired:
        if not acquired:
            return Cancelled(message=f"Another retraining of {registry.name} is running: run this one after it")
        splits = split(download(source), source)
        config = adapt_to_data(config, splits)
        gate = with_floor(gate, source)
        if skip_unchanged and (version := settled(registry, fingerprint(config, splits), gate)):
            tag_flow_run("skipped")
            message = f"Skipped: config, data and code are those of {version}"
            return Completed(message=f"{message}; {splits.extra}" if splits.extra else message)
        check_champion(registry)
        with mlflow_run(config, splits, fresh=fresh) as run:
            retrained = train_and_decide(config, splits, gate, run)
        if prune_keep is not None:
            prune(registry, keep=prune_keep)
    return final_state(retrained.entry, retrained)


def with_floor(gate: Gate, source: DataSource) -> Gate:
    """Return `gate`, with MNIST's floor if it sets none and `source` is MNIST."""
    return replace(gate, floor=MNIST_FLOOR) if gate.floor is None and source.dataset == "mnist" else gate


def train_and_decide(config: TrainConfig, splits: Splits, gate: Gate, run: Run) -> Retrained:
    """Train, register, and let the gate decide: the way of every candidate."""
    trained = train_and_register(config, splits, run)
    gap = reload(trained.model, splits.holdout, trained.holdout)
    entry, champion = decide(trained.model, splits.holdout, trained.holdout, gate, run, reload_gap=gap)
    model = replace(trained.model, alias=entry.alias)
    trained = replace(trained, model=model, entry=entry, champion=champion)
    report_results(trained, run)
    report_decision(entry, run)
    write_report(trained, splits, run)
    return Retrained(trained, entry)


def final_state(entry: LedgerEntry, result: Any) -> State[Any]:
    """Return the state of a flow run after the gate's decision, which its message and a tag name.

    A state with a name of its own would be left out by filters of Prefect's UI.
    """
    tag_flow_run(entry.action)
    return Completed(message=f"{entry.action.capitalize()}: {'; '.join(entry.reasons)}", data=result)


def serve(cron: str, timezone: str, parameters: dict[str, Any]) -> None:
    """Serve the flow with `parameters`, and run it at the times of `cron`, until a signal raises `Stopped`."""
    source = parameters["source"]
    schedule.serve(
        retrain_flow,
        cron,
        timezone,
        name="scheduled" if source.name == "mnist" else f"scheduled-{source.name}",
        parameters=parameters | {"skip_unchanged": parameters["skip_unchanged"] is not False},
    )


if __name__ == "__main__":
    times = options.pop("times")
    if times.cron:
        startup.prepare()
        serve(times.cron, times.timezone, options)
        sys.exit()
    import_readers()
    options["skip_unchanged"] = bool(options["skip_unchanged"])
    with startup.command():
        state = retrain_flow(**options, return_state=True)
        result = None if state.is_cancelled() else state.result()
    if state.is_cancelled():
        raise ValueError(state.message)
    print(f"\n{state.message}")
    if isinstance(result, Retrained):
        print(result.trained)
