"""The MLflow run that goes with a flow run, and that tells the same story whatever ends either."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.context import TagsContext
from prefect.flows import Flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Completed, Crashed

from mnist_pipeline import store, tracking, unfinished
from mnist_pipeline.config import DataSource, TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.provenance import fingerprint, provenance
from mnist_pipeline.tracking import Run
from tasks.notify import notify

FLOW_RUN_ID = "prefect.flow_run_id"
UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


@contextlib.contextmanager
def mlflow_run(config: TrainConfig, source: DataSource, splits: Splits, *, fresh: bool) -> Iterator[Run]:
    """Open the MLflow run that records a training; go on with one that was interrupted, unless it is to be `fresh`."""
    sets = {"training": splits.train, "test": splits.test, "exam": splits.exam}
    params = asdict(config) | {
        "dataset": source.name,
        "data_sha256": splits.source_sha256,
        "exam_sha256": splits.exam.sha256,
        "train_size": len(splits.train),
        "test_size": len(splits.test),
        "exam_size": len(splits.exam),
    }
    if splits.extra:
        params |= {"extra_sha256": splits.extra.examples.sha256, "extra_size": len(splits.extra.examples)}
    tags = provenance() | _flow_run_tags()
    training = fingerprint(config, splits)
    name = str(config) if source.name == "mnist" else f"{source.name}, {config}"
    with tracking.start_run(params=params, tags=tags, fingerprint=training, fresh=fresh, name=name) as run:
        if run.was_interrupted:
            _say(f"Going on with the MLflow run {run.id}, which was interrupted (--fresh starts anew)")
        for context, examples in sets.items():
            run.log_dataset(examples, name=f"{source.name}-{context}", context=context, source=source.folder)
        yield run


@contextlib.contextmanager
def sweep_run(params: dict[str, object], *, study: str, begun: str | None) -> Iterator[Run]:
    """Open the MLflow run of a sweep, the parent of its trials' runs; the one that was `begun`, if its id is given."""
    tags = provenance() | _flow_run_tags() | {"study": study}
    with tracking.start_run(params=params, tags=tags, run_id=begun, name=study) as run:
        yield run


def end_mlflow_run(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:
    """Let MLflow tell the same story as Prefect, where a run was ended in between the two: a hook of the flow's."""
    tracking.end_runs("FAILED" if state.is_failed() else "KILLED", **{FLOW_RUN_ID: str(flow_run.id)})


def sign_on() -> None:
    """Name this process in the flow run, and close the runs of processes that were killed before they could."""
    folder = store.unfinished_folder()
    process = unfinished.this_process(folder)
    if this_flow_run.id and process not in this_flow_run.tags:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(this_flow_run.id), tags=[*this_flow_run.tags, process])
    TagsContext.get().current_tags.discard(process)  # a task with a tag asks the API for leave, which takes up to 2 s
    for dead in unfinished.dead_processes(folder):
        _close_runs_of(dead)
    if not store.is_local():
        _follow_prefect()


def _follow_prefect() -> None:
    """Close the MLflow runs of flow runs that Prefect has ended meanwhile, as their machine was lost."""
    processes = tracking.processes_at_work()
    ended = FlowRunFilter(
        id=FlowRunFilterId(any_=[UUID(flow_run) for flow_run in processes]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
    )
    with get_client(sync_client=True) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=ended) if processes else ():
            tracking.close_runs_of(processes[str(flow_run.id)])
            _say(f"{flow_run.name}: Prefect found it {flow_run.state_name}. Its MLflow runs are closed")


def _close_runs_of(process: str) -> None:
    statuses = tracking.close_runs_of(process)
    killed = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[process]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)),
    )
    with get_client(sync_client=True) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=killed):
            finished = statuses.get(str(flow_run.id)) == "FINISHED"
            words = "Its process is gone" + (", with all of its work done" if finished else "")
            state: State[object] = (Completed if finished else Crashed)(message=words)
            client.set_flow_run_state(flow_run.id, state, force=True)
            _say(f"{flow_run.name}: {words}. Its runs are closed")
            if not finished:
                notify("killed", flow_run, words)


def _flow_run_tags() -> dict[str, str]:
    """Name the Prefect flow run that is going on; there is none in a flow that was called without its decorator."""
    if not this_flow_run.id:
        return {}
    return {
        FLOW_RUN_ID: this_flow_run.id,
        "mlflow.source.name": f"flows/{this_flow_run.flow_name}_flow.py",
        "prefect.flow_run_name": this_flow_run.name,
        "prefect.flow_run_url": this_flow_run.ui_url,
    }


def _say(words: str) -> None:
    if this_flow_run.id:
        get_run_logger().warning(words)
