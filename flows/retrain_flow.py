"""Retrain, once or on a schedule: train, and promote the new version only if the gate finds it no worse."""

from flows import cli, startup

if __name__ == "__main__":  # before the other imports: a bad option ends at once, and the Prefect API boots during them
    options = cli.start(cli.retrain)

import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, State
from prefect.schedules import Cron
from prefect.states import Cancelled, Completed

from flows.train_flow import Config, Trained, train_and_register
from mnist_pipeline.config import REFERENCE, Gate, TrainConfig
from mnist_pipeline.data.mnist import import_readers
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.processes import try_lock
from mnist_pipeline.tracking.provenance import fingerprint
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.tracking.store import in_progress_folder
from tasks.download import download
from tasks.gate import decide, reload
from tasks.notify import REJECTED, notify_of_state
from tasks.report import report_decision, report_results
from tasks.split import split
from tasks.track import mlflow_run, reconcile_runs


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
) -> State[Retrained]:
    """Train, and let the gate decide whether the new version becomes the champion; one retraining at a time."""
    reconcile_runs()
    with try_lock(in_progress_folder(), "retraining") as acquired:
        if not acquired:
            return Cancelled(message="Another retraining is running")
        registry = Registry(source.model_name)
        splits = split(download(source), source)
        if skip_unchanged and registry.champion_fingerprint() == fingerprint(config, splits):
            return Completed(name="Skipped", message=f"Config, data and code are those of version {registry.champion}")
        with mlflow_run(config, splits, fresh=fresh) as run:
            retrained = train_and_decide(config, splits, gate, run)
    return final_state(retrained.entry, retrained)


def train_and_decide(config: TrainConfig, splits: Splits, gate: Gate, run: Run) -> Retrained:
    """Train, register, and let the gate decide: the way of every candidate."""
    trained = train_and_register(config, splits, run)
    gap = reload(trained.model, splits.holdout, trained.holdout)
    entry = decide(trained.model, splits.holdout, trained.holdout, gate, run, reload_gap=gap)
    trained = replace(trained, model=replace(trained.model, alias=entry.alias))
    report_results(trained.test, trained.holdout, trained.model, run)
    report_decision(entry, run)
    return Retrained(trained, entry)


def final_state(entry: LedgerEntry, result: Any) -> State[Any]:
    """Return the state of a flow run after the gate's decision."""
    return Completed(name="Promoted" if entry.promoted else REJECTED, message="; ".join(entry.reasons), data=result)


def serve(cron: str, timezone: str, parameters: dict[str, Any]) -> None:
    """Serve the flow with `parameters`, and run it at the times of `cron`, until a signal comes."""
    source = parameters["source"]
    retrain_flow.serve(
        name="scheduled" if source.name == "mnist" else f"scheduled-{source.name}",
        description="Retrains on the schedule of `python flows/retrain_flow.py --cron`.",
        schedule=Cron(cron, timezone=timezone),
        parameters=parameters
        | {name: asdict(parameters[name]) for name in ("config", "gate")}
        | {"source": {name: value if value is None else str(value) for name, value in asdict(source).items()}},
        # A run that is due while another is running is cancelled rather than queued: runs never pile up.
        global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )


if __name__ == "__main__":
    cron, timezone = options.pop("cron"), options.pop("timezone")
    if cron:
        startup.prepare()
        serve(cron, timezone, options)
        sys.exit()
    import_readers()
    with startup.command():
        state = retrain_flow(**options, return_state=True)
        result = None if state.is_cancelled() else state.result()
    if state.is_cancelled():
        raise ValueError(state.message)
    print(f"\n{state.name}: {state.message}")
    if isinstance(result, Retrained):
        print(result.trained)
