"""A run is opened for what can be trained, and what dead processes left behind is closed by the next flow."""

import time
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from mlflow import MlflowClient
from prefect import flow, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run as current_flow_run
from prefect.states import Cancelling, Crashed, Running

from mnist_pipeline.config import FieldError, TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.process import Stopped
from mnist_pipeline.tracking import processes, store
from tasks import track
from tasks.notify import NOTIFY_URL
from tasks.track import mlflow_run, reconcile_runs
from tests.servers import webhook

LeaveBehind = Callable[..., tuple[str, UUID]]


@flow
def next_flow() -> None:
    reconcile_runs()


@flow
def killed_flow() -> None: ...


@pytest.fixture
def leave_behind(prefect_api: str) -> LeaveBehind:
    """Leave a flow run in a state, and its MLflow run with a status, as a process that was killed does."""

    def leave(state: State[object], status: str) -> tuple[str, UUID]:
        process = f"process-1-{uuid4().hex[:8]}"
        folder = store.in_progress_folder()
        folder.mkdir(exist_ok=True)
        (folder / f"{process}.lock").touch()
        with get_client(sync_client=True) as prefect:
            flow_run = prefect.create_flow_run(killed_flow, tags=[process], state=state)
        tags = {"process": process, "prefect.flow_run_id": str(flow_run.id)}
        run = MlflowClient().create_run(store.experiment_id("mnist"), tags=tags)
        MlflowClient().update_run(run.info.run_id, status)
        return run.info.run_id, flow_run.id

    return leave


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (TrainConfig(batch_size=50_000), "batch_size must be at most the 48,000 training images, not 50,000"),
        (TrainConfig(hidden=(1_000_000, 1_000_000)), "hidden 1000000 1000000 takes 16,013 GB of memory"),
    ],
    ids=["batch size", "network"],
)
def test_what_cannot_be_trained_is_refused_before_there_is_a_run(
    config: TrainConfig, problem: str, splits: Splits
) -> None:
    experiment = store.experiment_id("mnist")
    runs = len(MlflowClient().search_runs([experiment]))
    with pytest.raises(FieldError, match=problem), mlflow_run(config, splits, fresh=False):
        pass
    assert len(MlflowClient().search_runs([experiment])) == runs


def states(run: str, flow_run: UUID) -> tuple[str, str | None]:
    with get_client(sync_client=True) as prefect:
        return MlflowClient().get_run(run).info.status, prefect.read_flow_run(flow_run).state_name


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ((Running(), "RUNNING"), ("KILLED", "Crashed")),
        ((Running(), "FINISHED"), ("FINISHED", "Completed")),
        ((Crashed(), "FINISHED"), ("FINISHED", "Completed")),
        ((Crashed(), "KILLED"), ("KILLED", "Crashed")),
        ((Cancelling(), "RUNNING"), ("KILLED", "Cancelled")),
    ],
    ids=["killed at work", "killed at the very end", "a signal at the very end", "a signal at work", "cancelled"],
)
def test_both_runs_of_a_dead_process_agree_after_the_next_flow(
    leave_behind: LeaveBehind, left: tuple[State[object], str], expected: tuple[str, str]
) -> None:
    run, flow_run = leave_behind(*left)
    next_flow()
    assert states(run, flow_run) == expected


def test_a_killed_run_is_sent_to_the_webhook_once(leave_behind: LeaveBehind, monkeypatch: pytest.MonkeyPatch) -> None:
    run, flow_run = leave_behind(Running(), "RUNNING")
    with webhook() as (url, received):
        monkeypatch.setenv(NOTIFY_URL, url)
        next_flow()
        next_flow()
    (message,) = received
    assert (message["event"], message["message"]) == ("killed", "Its process is gone")
    assert message["prefect_url"].endswith(str(flow_run))
    assert message["mlflow_run"] == run


def test_the_runs_of_a_living_process_are_left_alone(leave_behind: LeaveBehind) -> None:
    run, flow_run = leave_behind(Running(), "RUNNING")
    process = MlflowClient().get_run(run).data.tags["process"]
    with processes.try_lock(store.in_progress_folder(), process) as acquired:
        assert acquired
        next_flow()
        assert states(run, flow_run) == ("RUNNING", "Running")


def test_every_flow_run_is_tagged_with_its_process(prefect_api: str) -> None:
    state = next_flow(return_state=True)
    assert state.state_details.flow_run_id
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(state.state_details.flow_run_id)
    assert flow_run.tags == [processes.process_id(store.in_progress_folder())]


@pytest.mark.parametrize("asked", [StateType.CANCELLING, StateType.CANCELLED])
def test_a_flow_run_that_is_cancelled_in_prefect_stops_and_both_runs_say_so(
    prefect_api: str, asked: StateType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "POLL_INTERVAL", 0.1)
    process = f"process-1-{uuid4().hex[:8]}"
    begun: list[tuple[str, UUID]] = []

    @flow
    def long_flow() -> None:
        flow_run = UUID(current_flow_run.id)
        run_tags = {"process": process, "prefect.flow_run_id": str(flow_run)}
        begun.append((MlflowClient().create_run(store.experiment_id("mnist"), tags=run_tags).info.run_id, flow_run))
        with get_client(sync_client=True) as prefect:
            prefect.set_flow_run_state(flow_run, State(type=asked), force=True)
        time.sleep(30)

    with pytest.raises(Stopped, match="cancelled in Prefect; the same command resumes"), tags(process):  # noqa: SIM117
        with track.stop_if_cancelled(process):
            long_flow()
    assert states(*begun[0]) == ("KILLED", "Cancelled")
