"""What happens as a run ends: a webhook if that is worth knowing, and a word on the next one."""

import json
import os
from urllib.request import Request, urlopen

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flows import Flow
from prefect.logging import get_logger
from prefect.utilities.urls import url_for

from mnist_pipeline.tracking import runs

NOTIFY_URL = "MNIST_PIPELINE_NOTIFY_URL"  # an environment variable, as a webhook's address is a secret
TIMEOUT = 5  # seconds
WORTH_KNOWING = ("Promoted", "Rejected", "Look", "Retrain")  # how the message of a completed flow run begins that is


def notify_of_state(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:  # noqa: ARG001  # Prefect's
    """Notify of a flow run that failed or crashed, promoted or rejected a version, or found drift: a hook of the flow.

    The next run of a schedule is printed.
    """
    events = {StateType.FAILED: "failed", StateType.CRASHED: "crashed"}
    message = state.message or ""
    beginning = message.partition(":")[0]
    event = beginning.lower() if beginning in WORTH_KNOWING else events.get(state.type)
    if event:
        notify(event, flow_run, message)
    if flow_run.deployment_id:
        print_next_run(flow_run)


def print_next_run(flow_run: FlowRun) -> None:
    """Print when the next run of the same schedule is due."""
    later = {"deployment_id": {"any_": [flow_run.deployment_id]}, "state": {"type": {"any_": [StateType.SCHEDULED]}}}
    with get_client(sync_client=True) as client:
        for next_run in client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(later), sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=1
        ):
            print(f"Next run at {next_run.next_scheduled_start_time:%Y-%m-%d %H:%M %Z}")


def notify(event: str, flow_run: FlowRun, message: str) -> None:
    """Send `event` as JSON, with links to both runs, if there is an address.

    It is failed, crashed or killed, or how the message of a completed run begins.

    A webhook that does not answer is a warning in the log, and no more.
    """
    url = os.environ.get(NOTIFY_URL)
    if not url:
        return
    mlflow_run = runs.find_run(**{runs.FLOW_RUN_ID: str(flow_run.id)})
    body = {
        "event": event,
        "message": message,
        "flow_run": flow_run.name,
        "prefect_url": url_for(flow_run),
        "mlflow_run": mlflow_run.id if mlflow_run else None,
        "mlflow_url": mlflow_run.url if mlflow_run else None,
    }
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        urlopen(request, timeout=TIMEOUT).close()
    except Exception as error:  # whatever another's server may do
        get_logger("notify").warning(f"The webhook could not be notified: {error}")
