"""What another site's page sends to our servers, from the browser of whoever runs them: all of it is refused."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import httpx
import pytest
from mlflow import MlflowClient

from tests.browser.conftest import OTHER_SITE
from tests.servers import eventually, listening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

POST = """([url, body, kind]) => fetch(url, {method: "POST", mode: "no-cors", body: new Blob([body], {type: kind})})"""
FORM = """([url, name]) => {
    document.body.innerHTML = `<iframe name="frame"></iframe>
        <form action="${url}" method="post" enctype="multipart/form-data" target="frame"><input name="${name}"></form>`;
    document.forms[0].submit();
}"""
SOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url, "prefect");
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
})"""


class Nothing(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module", params=[OTHER_SITE, "127.0.0.1"], ids=["other-site", "other-port"])
def stranger(request: pytest.FixtureRequest, browser: "Browser") -> Iterator["Page"]:
    """A page that is none of ours: of another site, or of another server on this machine."""
    with listening(Nothing) as url:
        page = browser.new_page()
        page.goto(url.replace("127.0.0.1", request.param))
        yield page
        page.close()


def post(page: "Page", url: str, body: str, kind: str = "") -> int:
    """Send what needs no permission beforehand; return the status, which the page itself is not told."""
    with page.expect_response(url) as response:
        page.evaluate(POST, [url, body, kind])
    status: int = response.value.status
    return status


def submit(page: "Page", url: str) -> int:
    with page.expect_response(url) as response:
        page.evaluate(FORM, [url, "image"])
    status: int = response.value.status
    return status


def created(url: str, **fields: str) -> str:
    """Create an object; ask again, as Prefect's client does, where the server finds its database locked (503)."""
    answers: list[httpx.Response] = []

    def answered() -> bool:
        answers.append(httpx.post(url, json=fields))
        return answers[-1].status_code != 503

    eventually(answered, every=0.5)
    return str(answers[-1].raise_for_status().json()["id"])


def test_it_cannot_delete_a_schedule(stranger: "Page", prefect_url: str) -> None:
    api = f"{prefect_url}/api"
    flow = created(f"{api}/flows/", name="kept")
    deployment = created(f"{api}/deployments/", name="kept", flow_id=flow)
    assert post(stranger, f"{api}/deployments/bulk_delete", "{}") == 403
    assert submit(stranger, f"{api}/deployments/bulk_delete") == 403
    assert httpx.get(f"{api}/deployments/{deployment}").status_code == 200


@pytest.mark.parametrize("path", ["/events/in", "/events/out", "/logs/out"])
def test_it_can_neither_read_prefects_logs_nor_make_up_events(stranger: "Page", prefect_url: str, path: str) -> None:
    assert stranger.evaluate(SOCKET, f"{prefect_url.replace('http', 'ws')}/api{path}") == "refused"


def test_it_gets_no_prediction(stranger: "Page", serving_url: str) -> None:
    assert submit(stranger, f"{serving_url}/predict") == 403


def test_it_corrects_nothing(stranger: "Page", serving_url: str) -> None:
    assert submit(stranger, f"{serving_url}/feedback") == 403


def test_it_registers_no_model(browser: "Browser", mlflow_url: str) -> None:
    """MLflow trusts the other servers of this machine, but no other site."""
    with listening(Nothing) as url:
        page = browser.new_page()
        page.goto(url.replace("127.0.0.1", OTHER_SITE))
        address = f"{mlflow_url}/ajax-api/2.0/mlflow/registered-models/create"
        for kind in ("", "text/plain"):
            assert post(page, address, json.dumps({"name": "planted"}), kind) == 403
        page.close()
    assert not MlflowClient().search_registered_models("name = 'planted'")
