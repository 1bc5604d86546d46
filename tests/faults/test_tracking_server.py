"""A real MLflow tracking server that dies in the middle of a run, and the password in its address."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from mnist_pipeline.tracking.store import RETRY_ENVIRONMENT
from tests.faults.conftest import Project, fails, reach, succeeds
from tests.servers import answers, eventually, free_port, listening

EPOCHS = 30  # short ones
LONG = ["--epochs", str(EPOCHS), "--hidden", "--batch-size", "12000"]
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}
PATIENT = IMPATIENT | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "6"}
PASSWORD = "correct-horse-battery-staple"


class Server:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        folder.mkdir()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words, "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"],
            cwd=self.folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(lambda: answers(f"{self.url}/health"), within=120)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("tracking") / "server")
    yield server
    server.kill()


@pytest.fixture
def project(project: Project, prefect_api: str) -> Project:
    """One whose commands share a Prefect API, which is not what fails here."""
    project.environment["PREFECT_API_URL"] = prefect_api
    return project


def check_epochs(server: Server, seed: str) -> None:
    """One finished run with that seed, which logged each epoch once."""
    mlflow = MlflowClient(server.url)
    (run,) = mlflow.search_runs(["1"], f"params.seed = '{seed}'")
    assert run.info.status == "FINISHED"
    history = mlflow.get_metric_history(run.info.run_id, "train_loss")
    assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))


def test_a_server_that_is_away_for_a_moment_is_waited_for(project: Project, server: Server, prefect_api: str) -> None:
    process = project.train(*LONG, "--seed", "1", MLFLOW_TRACKING_URI=server.url, **PATIENT)
    reach(process, "Epoch: 5/")
    server.kill()
    time.sleep(8)
    server.start()
    succeeds(process)
    check_epochs(server, "1")


def test_by_default_a_server_is_given_up_within_a_minute_and_a_silent_one_within_four() -> None:
    retries, factor, timeout = (
        int(RETRY_ENVIRONMENT[f"MLFLOW_HTTP_REQUEST_{name}"]) for name in ("MAX_RETRIES", "BACKOFF_FACTOR", "TIMEOUT")
    )
    waits = sum(factor * 2**number for number in range(1, retries))  # the first retry comes at once
    assert waits < 60
    assert waits + (1 + retries) * timeout < 240


def test_a_server_that_accepts_and_never_answers_is_given_up(project: Project, server: Server) -> None:
    os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        impatient = IMPATIENT | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
        line = fails(project.start("flows/champion.py", "history", MLFLOW_TRACKING_URI=server.url, **impatient))
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    assert f"the tracking server {server.url} failed" in line.splitlines()[-1]
    assert "Read timed out" in line


def test_a_server_that_is_gone_is_given_up_and_the_run_is_resumed_later(project: Project, server: Server) -> None:
    process = project.train(*LONG, "--seed", "2", MLFLOW_TRACKING_URI=server.url, **IMPATIENT)
    reach(process, "Epoch: 5/")
    server.kill()
    output = fails(process)
    assert f"the tracking server {server.url} failed" in output.splitlines()[-1]
    server.start()
    output = succeeds(project.train(*LONG, "--seed", "2", MLFLOW_TRACKING_URI=server.url))
    assert "Resuming the MLflow run" in output
    check_epochs(server, "2")


CREATES = ("runs/create", "mlflow/logged-models", "model-versions/create")


def test_what_a_gateway_gives_no_answer_to_is_made_once(project: Project, server: Server) -> None:
    unanswered = {*CREATES}

    class Gateway(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {"Content-Type": self.headers.get("Content-Type", "")}
            answer = httpx.request(self.command, server.url + self.path, content=body, headers=headers, timeout=60)
            for each in unanswered & {each for each in CREATES if self.path.endswith(each)}:
                unanswered.discard(each)
                self.send_error(504)
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    mlflow = MlflowClient(server.url)
    before = {run.info.run_id for run in mlflow.search_runs(["1"])}
    with listening(Gateway) as url:
        project.trains("--epochs", "1", "--hidden", "--seed", "9", MLFLOW_TRACKING_URI=url, **IMPATIENT)
    assert not unanswered
    (run,) = (run for run in mlflow.search_runs(["1"]) if run.info.run_id not in before)
    assert run.info.status == "FINISHED"
    (model,) = mlflow.search_logged_models(["1"], filter_string=f"source_run_id = '{run.info.run_id}'")
    (version,) = mlflow.search_model_versions(f"name = 'mnist-mlp' and run_id = '{run.info.run_id}'")
    assert version.source == f"models:/{model.model_id}"


def everything_written_in(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        yield from ((file, file.read_bytes()) for file in folder.rglob("*") if file.is_file())


def test_a_password_in_the_servers_address_is_written_nowhere(project: Project, server: Server) -> None:
    address = f"http://me:{PASSWORD}@127.0.0.1:{server.port}"
    options = ["--epochs", "1", "--hidden", "--floor", "0.5"]
    said = succeeds(project.start("flows/retrain_flow.py", *options, MLFLOW_TRACKING_URI=address))
    assert f"{server.url}/#/experiments/1/runs/" in said
    process = project.train(*LONG, MLFLOW_TRACKING_URI=address, **IMPATIENT)
    said += reach(process, "Epoch: 5/")
    server.kill()
    said += fails(process) + fails(project.train(*LONG, MLFLOW_TRACKING_URI=address, **IMPATIENT))
    assert f"the tracking server {server.url} failed" in said.splitlines()[-1]
    written = everything_written_in(project.root, server.folder)
    found = [str(file) for file, content in written if PASSWORD.encode() in content]
    assert (found, PASSWORD in said) == ([], False)
