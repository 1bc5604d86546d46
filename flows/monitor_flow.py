"""Watch what was served: drift, confidence, corrections, latency; retrain if that is the verdict and it is wanted."""

from flows import startup

if __name__ == "__main__":  # before the other imports: a signal or a bad option ends it at once, and the API boots
    startup.begin()
    from flows import cli, feedback

    options = cli.start(feedback.monitor, feedback.review)

import re
import sys
from dataclasses import asdict, replace
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed
from prefect.utilities.annotations import quote

from flows import schedule
from flows.retrain_flow import retrain_flow
from flows.train_flow import Config
from mnist_pipeline.config import REFERENCE, Gate, TrainConfig
from mnist_pipeline.data.mnist import import_readers
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.monitoring import review
from mnist_pipeline.monitoring.options import Watch
from mnist_pipeline.monitoring.verdict import Watched
from mnist_pipeline.tracking import runs
from mnist_pipeline.tracking.registry import Registry, resolve
from tasks.monitor import read_logs, watch_answers
from tasks.notify import notify_of_state
from tasks.track import parent_run, reconcile_runs, tag_flow_run


@flow(
    name="monitor",
    flow_run_name="{source.name}, {watch.since}",
    on_completion=[notify_of_state],
    on_failure=[notify_of_state],
    on_crashed=[notify_of_state],
)
def monitor_flow(
    watch: Watch = Watch(), config: Config = REFERENCE, source: DataSource = DataSource(), gate: Gate = Gate()
) -> State[Watched]:
    """Judge what the champion answered; with `watch.retrain`, let a retraining with the corrections follow."""
    reconcile_runs()
    registry, version = resolve(f"models:/{source.model_name}@champion")
    answers, corrections = read_logs(watch, registry.name, version)
    params = {name: value for name, value in asdict(watch).items() if name != "log"} | {"version": version}
    with parent_run(params, name=f"version {version}", experiment=f"{source.name}-monitoring") as run:
        # Quoted, as Prefect would look for futures in each of them, which takes a minute for 200,000
        quoted: tuple[Any, Any] = (quote(answers), quote(corrections))
        watched = watch_answers(*quoted, registry, version, watch, run)
        tag_flow_run(watched.verdict)
        message = watched.message
        if watch.retrain and watched.verdict == "retrain":
            _compare_configs(config, registry, version)
            message += f". {_retrain(watched, config, source, gate)}"
    return Completed(message=message, data=watched)


def _retrain(watched: Watched, config: TrainConfig, source: DataSource, gate: Gate) -> str:
    """Retrain with the corrections, if there are any; return what came of it."""
    extra = review.write_extra(watched.corrections) if watched.corrections else None
    state: State[Any] = retrain_flow(config, replace(source, extra=extra), gate, skip_unchanged=True, return_state=True)
    if state.is_failed() or state.is_crashed():
        state.result()  # raises what went wrong
    return state.message or ""


def _compare_configs(config: TrainConfig, registry: Registry, champion: int) -> None:
    """Warn if the gate will compare more than the corrections."""
    before, now = (  # but for the batch size, which small data change
        re.sub(r"batch size \d+, ", "", name) for name in (runs.name_of(registry.run_of(champion)), str(config))
    )
    if before not in ("", now):
        get_run_logger().warning(
            f"The champion was trained with {before}, and this retraining uses {now}: the gate compares the "
            "configs, too. To learn what the corrections alone are worth, give this command the champion's options"
        )


def serve(cron: str, timezone: str, parameters: dict[str, Any]) -> None:
    """Serve the flow with `parameters`, and run it at the times of `cron`, until a signal raises `Stopped`."""
    schedule.serve(monitor_flow, cron, timezone, name=f"monitoring-{parameters['source'].name}", parameters=parameters)


if __name__ == "__main__":
    times = options.pop("times")
    if times.cron:
        startup.prepare()
        serve(times.cron, times.timezone, options)
        sys.exit()
    if options["watch"].retrain:
        import_readers()
    with startup.command():
        state = monitor_flow(**options, return_state=True)
        watched = state.result()
    print(f"\n{watched}\n\n{state.message}")
