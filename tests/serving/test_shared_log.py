"""A server hands its log out to those with its token, and monitoring takes the server's address."""

import contextlib
import http.server
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from flows import feedback
from flows.train_flow import Trained
from mnist_pipeline.config import FieldError
from mnist_pipeline.environment import TOKEN
from mnist_pipeline.monitoring import fetch
from mnist_pipeline.monitoring.fetch import existing_log
from mnist_pipeline.monitoring.log import ServedLog
from mnist_pipeline.web import listen
from serving.app import create_app
from serving.log import LogWriter
from tests.servers import listening, running
from tests.serving.test_log import served

SECRET = "0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "served.db"
    with contextlib.closing(ServedLog(file)) as log:
        log.append([served(number) for number in range(3)])
        log.correct(served(1).id, "7")
    return file


@pytest.mark.parametrize("shared", [True, False])
def test_a_log_is_fetched_by_address_with_the_token_if_it_is_shared(
    shared: bool, trained: Trained, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(create_app(trained.model.uri, token=SECRET, log=LogWriter(file), share_log=shared)) as address:
        for token in ("", "another0123456789"):
            monkeypatch.setenv(TOKEN, token)
            with pytest.raises(ValueError, match=rf"{address} does not hand out its log \(401\): set {TOKEN}"):
                existing_log(address).__enter__()
        monkeypatch.setenv(TOKEN, SECRET)
        if not shared:
            with pytest.raises(ValueError, match=r'\(404\): start it with make serve ARGS="--log --share-log"'):
                existing_log(address).__enter__()
            return
        with existing_log(f"{address}/") as log:
            fetched = [*log.since()]
            assert log.file != file
        assert not log.file.exists()
        assert [each.id for each in fetched] == [served(number).id for number in range(3)]
        assert [each.correct for each in fetched] == [None, "7", None]
        assert (fetched[2].pixels == served(2).pixels).all()
        assert np.allclose(fetched[2].probabilities, served(2).probabilities)


def test_the_token_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/another")
            self.end_headers()

    monkeypatch.setenv(TOKEN, SECRET)
    with http.server.HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever).start()
        with pytest.raises(ValueError, match=r"\(302\): is it the address of a server of this project\?"):
            existing_log(f"http://127.0.0.1:{server.server_port}").__enter__()
        server.shutdown()
    assert asked == ["/log"]


@pytest.mark.parametrize(
    ("content", "length", "message"),
    [
        (b"not a database" * 1000, "14000", "is no log of served predictions"),
        (b"half", "8", "4 bytes came, and then no more"),
        (b"half", "abc", "4 bytes came, and then no more"),
        (b".", None, "not complete after 0.5 seconds"),
    ],
    ids=["another file", "half of it", "no length", "a drip"],
)
def test_what_another_program_sends_is_one_line_that_names_its_address(
    content: bytes, length: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "FETCH_TIMEOUT", 0.5)

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if length:
                self.send_header("Content-Length", length)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(1 if length else 100):
                    self.wfile.write(content)
                    time.sleep(0 if length else 0.1)

    with listening(Other) as address, pytest.raises((ValueError, OSError), match=message) as refusal:
        existing_log(address).__enter__()
    assert address in str(refusal.value)


def test_a_server_that_does_not_answer_is_one_line() -> None:
    with listen(0, remedy="") as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(OSError, match=rf"the log of {address} cannot be fetched \(.*refused\): is the server up\?"):
        existing_log(address).__enter__()


def test_decisions_are_carried_out_in_the_servers_own_file(file: Path) -> None:
    with pytest.raises(FieldError, match="carry it out on its machine"):
        feedback.review(log=("http://127.0.0.1:9", str(file)), withdraw=(served(1).id,))
    with contextlib.closing(ServedLog(file)) as log:
        assert [each.correct for each in log.corrections()] == ["7"]
