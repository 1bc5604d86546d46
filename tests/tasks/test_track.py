"""What dead processes left behind is closed by the next flow, in MLflow and in Prefect."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Crashed, Running

from mnist_pipeline.tracking import processes, store
from tasks.notify import NOTIFY_URL
from tasks.track import reconcile_runs
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
        run = MlflowClient().create_run(store.prepare(), tags=tags)
        MlflowClient().update_run(run.info.run_id, status)
        return run.info.run_id, flow_run.id

    return leave


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
    ],
    ids=["killed at work", "killed at the very end", "a signal at the very end", "a signal at work"],
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
