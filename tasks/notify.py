"""A webhook for runs that failed, crashed, were killed or rejected."""

import json
import os
from urllib.request import Request, urlopen

from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import Flow
from prefect.logging import get_logger

from mnist_pipeline.tracking import runs

NOTIFY_URL = "MNIST_PIPELINE_NOTIFY_URL"  # an environment variable, as a webhook's address is a secret
TIMEOUT = 5  # seconds
REJECTED = "Rejected"  # the state of a flow run whose new version did not become the champion


def notify_of_state(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:  # noqa: ARG001  # Prefect's
    """Notify of a flow run that failed or crashed, or whose new version was rejected: a hook of the flow."""
    events = {StateType.FAILED: "failed", StateType.CRASHED: "crashed"}
    event = "rejected" if state.name == REJECTED else events.get(state.type)
    if event:
        notify(event, flow_run, state.message or "")


def notify(event: str, flow_run: FlowRun, message: str) -> None:
    """Send `event` (failed, crashed, killed or rejected) as JSON, with links to both runs, if there is an address.

    A webhook that does not answer is a warning in the log, and no more.
    """
    url = os.environ.get(NOTIFY_URL)
    if not url:
        return
    mlflow_run = runs.find_run(**{"prefect.flow_run_id": str(flow_run.id)})
    body = {
        "event": event,
        "message": message,
        "flow_run": flow_run.name,
        "prefect_url": f"{os.environ.get('PREFECT_UI_URL', '').rstrip('/')}/runs/flow-run/{flow_run.id}",
        "mlflow_run": mlflow_run.id if mlflow_run else None,
        "mlflow_url": mlflow_run.url if mlflow_run else None,
    }
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        urlopen(request, timeout=TIMEOUT).close()
    except Exception as error:  # whatever another's server may do
        get_logger("notify").warning(f"The webhook could not be notified: {error}")
