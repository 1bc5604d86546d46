"""The webhook, which is never in the way of a run, and the word on a schedule's next run."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Scheduled

from tasks.notify import NOTIFY_URL, notify, notify_of_state
from tests.servers import free_port, webhook

FLOW_RUN = FlowRun(flow_id=uuid4(), name="a retraining")


def test_a_message_names_the_flow_run_even_if_it_has_no_mlflow_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook() as (url, received):
        monkeypatch.setenv(NOTIFY_URL, url)
        notify("killed", FLOW_RUN, "Its process is gone")
    (message,) = received
    assert (message["event"], message["message"]) == ("killed", "Its process is gone")
    assert message["flow_run"] == "a retraining"
    assert message["prefect_url"].endswith(f"/runs/flow-run/{FLOW_RUN.id}")
    assert message["mlflow_run"] is message["mlflow_url"] is None


def test_a_webhook_that_does_not_answer_is_only_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(NOTIFY_URL, f"http://127.0.0.1:{free_port()}/hook")
    notify("failed", FLOW_RUN, "the loss became nan")
    assert "The webhook could not be notified: <urlopen error [Errno 111] Connection refused>" in caplog.text


@flow
def nightly() -> object:
    return None


def test_at_its_end_a_scheduled_run_prints_when_the_next_is(
    prefect_api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with get_client(sync_client=True) as prefect:
        deployment = prefect.create_deployment(flow_id=prefect.create_flow(nightly), name="nightly")
        for year in (2100, 2099):
            due: State[None] = Scheduled(scheduled_time=datetime(year, 1, 1, 3, tzinfo=UTC))
            prefect.create_flow_run_from_deployment(deployment, state=due)
        run = prefect.create_flow_run_from_deployment(deployment, state=Completed())
    notify_of_state(nightly, run, Completed())
    assert capsys.readouterr().out == "Next run at 2099-01-01 03:00 UTC\n"
