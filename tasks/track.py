"""The MLflow run that goes with a flow run, and what makes both tell the same story."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import TERMINAL_STATES, State, StateType
from prefect.context import TagsContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as current_flow_run
from prefect.states import Completed, Crashed

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import processes, runs, store
from mnist_pipeline.tracking.provenance import fingerprint, provenance
from mnist_pipeline.tracking.runs import Run
from tasks.notify import notify

FLOW_RUN_ID = "prefect.flow_run_id"
NOT_COMPLETED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.CRASHED]


@contextlib.contextmanager
def mlflow_run(config: TrainConfig, splits: Splits, *, fresh: bool) -> Iterator[Run]:
    """Open the MLflow run of a training; resume one that was interrupted, unless a `fresh` start is wanted."""
    source, parts = splits.source, splits.named()
    params = asdict(config) | {"dataset": source.name, "data_sha256": splits.sha256}
    params |= {"holdout_sha256": splits.holdout.sha256} | {f"{name}_size": len(part) for name, part in parts.items()}
    if splits.extra:
        params |= {"extra_sha256": splits.extra.examples.sha256, "extra_size": len(splits.extra.examples)}
    tags = provenance() | _flow_run_tags()
    name = str(config) if source.name == "mnist" else f"{source.name}, {config}"
    with runs.start_run(
        params=params, tags=tags, fingerprint=fingerprint(config, splits), fresh=fresh, name=name
    ) as run:
        if run.was_interrupted:
            _warn(f"Resuming the MLflow run {run.id}, which was interrupted (--fresh starts anew)")
        for part, examples in parts.items():
            context = "training" if part == "train" else part
            run.log_dataset(examples, name=f"{source.name}-{context}", context=context, source=source.folder)
        yield run


@contextlib.contextmanager
def sweep_run(params: dict[str, object], *, study: str, run_id: str | None) -> Iterator[Run]:
    """Open the MLflow run of a sweep, the parent of its trials' runs; the one with `run_id` if the study has one."""
    tags = provenance() | _flow_run_tags() | {"study": study}
    with runs.start_run(params=params, tags=tags, run_id=run_id, name=study) as run:
        yield run


def reconcile_runs() -> None:
    """Tag the flow run with this process, and end what dead processes left behind, in MLflow and in Prefect.

    Every flow begins with this. Together with the context manager of a run it decides how runs end.
    """
    folder = store.in_progress_folder()
    process = processes.process_id(folder)
    TagsContext.get().current_tags.discard(process)  # for each task with a tag, Prefect asks for a slot: up to 2 s
    with get_client(sync_client=True) as client:
        if current_flow_run.id and process not in current_flow_run.tags:
            client.update_flow_run(UUID(current_flow_run.id), tags=[*current_flow_run.tags, process])
        for dead in processes.dead_processes(folder):
            _close_runs(dead, client)
        if not store.is_local():
            _close_lost_runs(client)


def _close_runs(process: str, client: SyncPrefectClient) -> None:
    """End the runs of a dead process: Completed if MLflow has all of its work, else Crashed and KILLED."""
    statuses = runs.close_runs(process)
    left_behind = {"tags": {"all_": [process]}, "state": {"type": {"any_": NOT_COMPLETED}}}
    for flow_run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(left_behind)):
        finished = statuses.get(str(flow_run.id)) == "FINISHED"
        if flow_run.state_type == StateType.CRASHED and not finished:
            continue
        message = "Its process is gone" + (", with all of its work done" if finished else "")
        state: State[object] = (Completed if finished else Crashed)(message=message)
        client.set_flow_run_state(flow_run.id, state, force=True)
        _warn(f"{flow_run.name}: {message}. Its runs are closed")
        if not finished:
            notify("killed", flow_run, message)


def _close_lost_runs(client: SyncPrefectClient) -> None:
    """End the MLflow runs of flow runs that Prefect has ended because their machine was lost."""
    process_of = runs.running_processes()
    ended = {"id": {"any_": list(process_of)}, "state": {"type": {"any_": list(TERMINAL_STATES)}}}
    for flow_run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(ended)) if process_of else ():
        runs.close_runs(process_of[str(flow_run.id)])
        _warn(f"{flow_run.name}: Prefect found it {flow_run.state_name}. Its MLflow runs are closed")


def _flow_run_tags() -> dict[str, str]:
    """Return tags that name the current flow run; there is none if the flow is called without its decorator."""
    if not current_flow_run.id:
        return {}
    return {
        FLOW_RUN_ID: current_flow_run.id,
        "mlflow.source.name": f"flows/{current_flow_run.flow_name}_flow.py",
        "prefect.flow_run_name": current_flow_run.name,
        "prefect.flow_run_url": current_flow_run.ui_url,
    }


def _warn(message: str) -> None:
    if current_flow_run.id:
        get_run_logger().warning(message)
