"""The MLflow run that goes with a flow run, and what makes both tell the same story."""

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.context import TagsContext
from prefect.exceptions import Abort
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as current_flow_run
from prefect.states import Cancelled, Completed, Crashed

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.process import Stopped
from mnist_pipeline.tracking import processes, runs, store
from mnist_pipeline.tracking.provenance import fingerprint, provenance
from mnist_pipeline.tracking.runs import FLOW_RUN_ID, Run
from mnist_pipeline.training.loop import check_trainable
from tasks.notify import notify

NOT_COMPLETED = [StateType.PENDING, StateType.RUNNING, StateType.CRASHED, StateType.CANCELLING, StateType.CANCELLED]
POLL_INTERVAL = 2  # seconds between two questions whether the run has been cancelled


@contextlib.contextmanager
def mlflow_run(config: TrainConfig, splits: Splits, *, fresh: bool, parent: Run | None = None) -> Iterator[Run]:
    """Open the MLflow run of a training; resume one that was interrupted, unless a `fresh` start is wanted."""
    check_trainable(config, splits.schema, images=len(splits.train))  # before there is a run
    source, parts = splits.source, splits.named()
    params = asdict(config) | {"dataset": source.name, "data_sha256": splits.sha256}
    params |= {"holdout_sha256": splits.holdout.sha256} | {f"{name}_size": len(part) for name, part in parts.items()}
    if splits.extra:
        params |= {"extra_sha256": splits.extra.examples.sha256, "extra_size": len(splits.extra.examples)}
    tags = provenance() | _flow_run_tags() | ({"mlflow.parentRunId": parent.id} if parent else {})
    own = {"fingerprint": fingerprint(config, splits), "name": str(config), "experiment": source.name}
    with runs.start_run(params=params, tags=tags, fresh=fresh, **own) as run:
        if run.was_interrupted:
            _warn(f"Resuming the MLflow run {run.id}, which was interrupted (--fresh starts anew)")
        for part, examples in parts.items():
            context = "training" if part == "train" else part
            run.log_dataset(examples, name=f"{source.name}-{context}", context=context, source=source.folder)
        yield run


@contextlib.contextmanager
def parent_run(
    params: Mapping[str, object], *, name: str, experiment: str, run_id: str | None = None, **tags: str
) -> Iterator[Run]:
    """Open the MLflow run of what is more than one training: of a sweep, of several seeds, of an inspection's folds."""
    all_tags = provenance() | _flow_run_tags() | tags
    with runs.start_run(params=params, tags=all_tags, run_id=run_id, name=name, experiment=experiment) as run:
        yield run


def reconcile_runs() -> None:
    """Tag the flow run with this process, and end what dead processes left behind, in MLflow and in Prefect.

    Every flow begins with this. Together with the context manager of a run it decides how runs end.
    """
    with store.as_store_errors():  # a flow run of a schedule or a worker has prepared nothing yet
        store.prepare()
    folder = store.in_progress_folder()
    process = processes.process_id(folder)
    TagsContext.get().current_tags.discard(process)  # for each task with a tag, Prefect asks for a slot: up to 2 s
    if process not in current_flow_run.tags:
        tag_flow_run(process)
    with get_client(sync_client=True) as client:
        for dead in processes.dead_processes(folder):
            _close_runs(dead, client)
        if not store.is_local():
            _close_lost_runs(client)


def tag_flow_run(tag: str) -> None:
    """Add a tag to the current flow run: Prefect's UI filters by tags."""
    if not current_flow_run.id:
        return
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(current_flow_run.id))
        client.update_flow_run(flow_run.id, tags=[*flow_run.tags, tag])


@contextlib.contextmanager
def stop_if_cancelled(process: str) -> Iterator[None]:
    """Stop within the block when the flow run of this `process` is cancelled in Prefect: it has no worker to do so."""
    ended = threading.Event()
    main = threading.main_thread().ident
    assert main

    def watch() -> None:
        cancelled = _runs_of(process, [StateType.CANCELLING, StateType.CANCELLED])
        with get_client(sync_client=True) as client:
            while not ended.wait(POLL_INTERVAL):
                with contextlib.suppress(Exception):  # the API is away
                    if client.read_flow_runs(flow_run_filter=cancelled):
                        signal.pthread_kill(main, signal.SIGUSR1)
                        return

    def abort(*_: object) -> None:
        if current_flow_run.id and not ended.is_set():
            raise Abort("cancelled in Prefect")  # on which Prefect's engine leaves the state as it is

    signal.signal(signal.SIGUSR1, abort)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except Abort:
        with get_client(sync_client=True) as client:
            _close_runs(process, client)
        raise Stopped("cancelled in Prefect; the same command resumes where this one stopped") from None
    finally:
        ended.set()


def _runs_of(process: str, states: list[StateType]) -> FlowRunFilter:
    return FlowRunFilter.model_validate({"tags": {"all_": [process]}, "state": {"type": {"any_": states}}})


def _close_runs(process: str, client: SyncPrefectClient) -> None:
    """End the runs of a process that is gone: as Completed if MLflow has all of its work, else as KILLED.

    In Prefect that is Cancelled if someone asked for it, else Crashed.
    """
    statuses = runs.close_runs(process)
    for flow_run in client.read_flow_runs(flow_run_filter=_runs_of(process, NOT_COMPLETED)):
        finished = statuses.get(str(flow_run.id)) == "FINISHED"
        if flow_run.state_type in TERMINAL_STATES and not finished:
            continue
        message = "Its process is gone" + (", with all of its work done" if finished else "")
        cancelled = flow_run.state_type == StateType.CANCELLING
        end = Completed if finished else Cancelled if cancelled else Crashed
        client.set_flow_run_state(flow_run.id, end(message=message), force=True)
        _warn(f"{flow_run.name}: {message}; its MLflow runs are marked as ended")
        if not (finished or cancelled):
            notify("killed", flow_run, message)


def _close_lost_runs(client: SyncPrefectClient) -> None:
    """End the MLflow runs of flow runs that Prefect has ended because their machine was lost."""
    process_of = runs.running_processes()
    ended = {"id": {"any_": list(process_of)}, "state": {"type": {"any_": list(TERMINAL_STATES)}}}
    for flow_run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(ended)) if process_of else ():
        runs.close_runs(process_of[str(flow_run.id)])
        _warn(f"{flow_run.name}: Prefect found it {flow_run.state_name}; its MLflow runs are marked as ended")


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
