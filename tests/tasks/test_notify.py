"""The webhook, which is never in the way of a run."""

from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from tasks.notify import NOTIFY_URL, notify
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
