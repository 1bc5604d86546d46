"""Whom the server answers: this machine and the proxy that is named, and no client that keeps it waiting."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from flows.train_flow import Trained
from mnist_pipeline.environment import TOKEN
from mnist_pipeline.web import listen
from serving import connection
from serving.access import token_for
from serving.app import create_app
from tests.servers import running
from tests.serving.conftest import BASE

BLANK = [[0] * 28] * 28


def test_requests_under_another_hosts_name_are_refused(web: TestClient) -> None:
    for host, status in {
        "localhost:8000": 200,
        "127.0.0.1": 200,
        "evil.example": 400,
        "127.0.0.1.evil.example": 400,
    }.items():
        assert web.get("/health", headers={"host": host}).status_code == status


def test_an_answer_is_sent_at_once() -> None:
    with listen(0, remedy="") as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:  # or else its body would wait until the client has acknowledged its head
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://localhost:8000", 200),  # the same server
        ("http://localhost:3000", 403),
        ("http://127.0.0.1", 403),
        ("https://evil.example:8000", 403),
        ("http://127.0.0.1.evil.example:8000", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_origin_is_refused(web: TestClient, origin: str, status: int) -> None:
    answer = web.post("/predict", json=BLANK, headers={"origin": origin})
    assert answer.status_code == status
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "digits.example.org"], ids=["host replaced", "host kept"])
def test_it_works_behind_a_proxy_that_is_named(trained: Trained, host: str) -> None:
    app = create_app(trained.model.uri, allowed_hosts=["digits.example.org"])
    proxied = {"host": host, "origin": "https://digits.example.org"}
    web = TestClient(app, base_url=f"{BASE}/digits/", root_path="/digits", headers=proxied)  # as uvicorn hands it on
    assert web.post("predict", json=BLANK).status_code == 200
    assert web.get("openapi.json").json()["servers"] == [{"url": "/digits"}]
    page, docs, script = (web.get(path).text for path in ("", "docs", "page.js"))
    assert "page.css" in page
    assert not re.findall("""(?:href|src|fetch)[=(]["']/""", page + docs + script)  # which would leave /digits
    assert web.get("health", headers={"host": "evil.example"}).status_code == 400
    assert web.post("predict", json=BLANK, headers={"origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.2", "127.0.0.2:8000"), ("::1", "[::1]:8000")])
def test_it_answers_at_the_address_that_it_was_given(trained: Trained, host: str, shown: str) -> None:
    app = create_app(trained.model.uri, allowed_hosts=[host])
    with TestClient(app, base_url="http://localhost:8000") as web:
        for origin, status in ((shown, 200), (shown.replace("8000", "3000"), 403), ("evil.example", 403)):
            headers = {"host": shown, "origin": f"http://{origin}"}
            assert web.get("/health", headers=headers).status_code == status
        for other in ("[::2]:8000", "127.0.0.3:8000", f"evil@{shown}", "", "::1"):
            assert web.get("/health", headers={"host": other}).status_code == 400


def test_an_allowed_host_is_a_name() -> None:
    for host in ("https://digits.example.org", "digits.example.org:443", "*", ""):
        with pytest.raises(ValueError, match="a name alone"):
            create_app(allowed_hosts=[host])


SECRET = "0123456789abcdef"


@pytest.fixture(scope="module")
def guarded(trained: Trained) -> TestClient:
    return TestClient(create_app(trained.model.uri, token=SECRET), base_url="http://10.0.0.7:8000")


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer 0123456789abcdeF", f"Basic {SECRET}", SECRET, "Bearer \xe9"])
@pytest.mark.parametrize("path", ["/predict", "/feedback", "/model", "/metrics"])
def test_without_the_token_nothing_is_told(guarded: TestClient, path: str, given: str) -> None:
    method = "POST" if path in ("/predict", "/feedback") else "GET"
    answer = guarded.request(method, path, headers={"authorization": given.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_token_opens_and_probes_and_the_page_need_none(guarded: TestClient) -> None:
    own = {"authorization": f"bearer {SECRET}", "origin": "http://10.0.0.7:8000"}
    assert guarded.post("/predict", json=BLANK, headers=own).status_code == 200
    assert guarded.get("/metrics", headers=own).status_code == 200
    for path in ("/health", "/ready", "/", "/page.js", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200
    assert [guarded.head(path).status_code for path in ("/health", "/ready")] == [200, 200]  # as some balancers ask
    other = own | {"origin": "https://evil.example"}
    assert guarded.post("/predict", json=BLANK, headers=other).status_code == 403


def test_others_are_let_in_only_with_a_token_or_when_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert token_for("127.0.0.1") is token_for("::1") is token_for("localhost") is None
    assert token_for("0.0.0.0", no_token=True) is None
    for host in ("0.0.0.0", "::", "10.0.0.7", "digits.example.org"):
        with pytest.raises(ValueError, match=f"--host {host} lets other machines in: set {TOKEN}"):
            token_for(host)
    monkeypatch.setenv(TOKEN, SECRET)
    assert token_for("0.0.0.0") == SECRET
    for bad in ("short", "with a space in it, and long"):
        monkeypatch.setenv(TOKEN, bad)
        with pytest.raises(ValueError, match="16 or more"):
            token_for("127.0.0.1")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that takes five connections."""
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 5)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = "long" * 10**6 if scope["path"] == "/long" else await Request(scope, receive).body()
        await PlainTextResponse(answer)(scope, receive, send)

    with running(app, lifespan="off", limit_concurrency=10) as address:
        yield int(address.rpartition(":")[2])


HALVES = [b"", b"POST / HTTP/1.1\r\nHost: 127", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf"]
LONG = b"GET /long HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 3  # more than the system takes
WHOLE = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nwhole"


@pytest.mark.parametrize("sent", [*HALVES, LONG], ids=["nothing", "head", "body", "answers that nobody reads"])
def test_clients_that_keep_the_server_waiting_do_not_take_every_connection(patient: int, sent: bytes) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(50):
            client = held.enter_context(socket.create_connection(("127.0.0.1", patient), timeout=30))
            client.sendall(sent)
            if sent is LONG:
                client.recv(1)  # an answer is on its way
        with socket.create_connection(("127.0.0.1", patient), timeout=30) as whole:
            whole.sendall(WHOLE)
            assert whole.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("half", HALVES[:2], ids=["nothing", "head"])
@pytest.mark.parametrize("answered", [False, True], ids=["first request", "second request"])
def test_a_client_that_sends_half_a_request_is_timed_out(
    patient: int, monkeypatch: pytest.MonkeyPatch, half: bytes, answered: bool
) -> None:
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT", 0.5)
    with socket.create_connection(("127.0.0.1", patient), timeout=30) as client:
        if answered:
            client.sendall(WHOLE)
            client.recv(1000)
        client.sendall(half)
        while client.recv(1000):
            pass


def test_a_client_that_does_not_read_its_answers_is_timed_out(patient: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READ_TIMEOUT", 0.5)
    with socket.create_connection(("127.0.0.1", patient), timeout=30) as client:
        client.sendall(LONG)
        time.sleep(2)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(2**20):
                received += len(part)
    assert received < 12 * 10**6
