"""What a schedule carries from the command line to each of its runs: JSON, which the flow reads back."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import get_client
from prefect.runner import Runner
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows import cli, retrain_flow
from flows.schedule import api_answers
from mnist_pipeline.config import CODE, FAST
from mnist_pipeline.tracking.store import in_progress_folder
from tests.servers import listening

PARAMETERS = ("config", "source", "gate", "fresh", "skip_unchanged", "prune_keep")


@pytest.fixture
def served(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Prefect receives, in place of serving until a signal comes."""
    received: dict[str, Any] = {}

    async def start(_: Runner) -> None: ...

    monkeypatch.setattr(Runner, "add_flow", lambda *_, **options: received.update(options) or uuid4())
    monkeypatch.setattr(Runner, "start", start)
    return received


def schedule(*arguments: str) -> dict[str, Any]:
    """Serve what the command line asks for; return its options."""
    options = cli.parse(cli.retrain, ["--cron", "0 3 * * *", "--timezone", "Europe/Berlin", *arguments])
    retrain_flow.serve(options["times"].cron, options["times"].timezone, {name: options[name] for name in PARAMETERS})
    return options


def test_each_run_of_a_schedule_gets_the_options_of_the_command(served: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "letters"
    own.mkdir()
    data = ["--dataset", str(own), "--extra", str(tmp_path), "--image-size", "16"]
    options = schedule(*data, "--recipe", "accurate", "--hidden", "30", "20", "--floor", "0.9", "--skip-unchanged")
    parameters = retrain_flow.retrain_flow.validate_parameters(json.loads(json.dumps(served["parameters"])))
    assert parameters == {name: options[name] for name in PARAMETERS}


def test_a_schedule_skips_what_is_unchanged_unless_it_is_told_not_to(served: dict[str, Any]) -> None:
    schedule()
    assert served["parameters"]["skip_unchanged"] is True
    schedule("--no-skip-unchanged")
    assert served["parameters"]["skip_unchanged"] is False


def test_a_schedule_says_when_its_next_run_is(served: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    schedule()
    assert re.match(r"Next run at \d{4}-\d\d-\d\d 03:00 CES?T\n", capsys.readouterr().out)


def test_a_schedule_that_another_process_serves_is_refused(served: dict[str, Any]) -> None:
    home = str(get_current_settings().home)
    hold = "from mnist_pipeline.tracking.processes import try_lock; import pathlib, sys, time\n"
    hold += "with try_lock(pathlib.Path(sys.argv[1]), 'scheduled') as taken: print(taken, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, home], cwd=CODE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "True\n"
        with pytest.raises(ValueError, match=r"this schedule \(scheduled\) is running already"):
            schedule()
        schedule("--dataset", "fashion-mnist")
        other.kill()
    schedule()


@pytest.fixture
def often(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule looks after things at once, rather than once a minute."""
    monkeypatch.setattr("flows.schedule.CHECK_INTERVAL", 0)
    monkeypatch.setattr("flows.schedule.POLL_INTERVAL", 0.1)


async def delete_schedule() -> None:
    """Delete it from Prefect, as someone does in the UI; it is gone as well from a server with a new database."""
    async with get_client() as client:
        await client.delete_deployment((await client.read_deployment_by_name("retrain/scheduled")).id)


def test_a_schedule_closes_what_dies_beside_it(often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = in_progress_folder() / "process-1-dead.lock"

    async def start(_: Runner) -> None:
        lock.touch()  # as a killed schedule's run leaves it, whose slot would never be free
        async with asyncio.timeout(30):
            while lock.exists():
                await asyncio.sleep(0.1)

    monkeypatch.setattr(Runner, "start", start)
    schedule()
    asyncio.run(delete_schedule())


def test_a_proxy_that_answers_for_a_server_that_is_gone_is_no_api() -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(502)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Proxy) as url, temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        assert not api_answers()


def test_a_schedule_that_another_machine_serves_is_refused(
    often: None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(_: Runner) -> None:
        async with get_client() as client, asyncio.timeout(30):
            deployment = await client.read_deployment_by_name("retrain/scheduled")
            while not deployment.last_polled:
                await client.get_scheduled_flow_runs_for_deployments([deployment.id])
                deployment = await client.read_deployment(deployment.id)
            await client.pause_deployment(deployment.id)  # in the UI, which does not end it

    monkeypatch.setattr(Runner, "start", start)
    schedule()
    schedule()  # again, as after a kill
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    with pytest.raises(ValueError, match=f"already: .* on .*, with the Prefect home {home}/prefect; stop"):
        schedule()
    asyncio.run(delete_schedule())


def test_a_schedule_that_prefect_no_longer_has_says_so_and_ends(often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(_: Runner) -> None:
        await delete_schedule()
        await asyncio.sleep(60)  # as long as it would wait for runs

    monkeypatch.setattr(Runner, "start", start)
    with pytest.raises(
        OSError, match=r"the Prefect API at .* no longer has this schedule: .*; start this schedule again"
    ):
        schedule()


def test_a_schedule_has_the_times_and_the_name_of_its_dataset(served: dict[str, Any], tmp_path: Path) -> None:
    schedule()
    assert served["name"] == "scheduled"
    assert (served["schedule"].cron, served["schedule"].timezone) == ("0 3 * * *", "Europe/Berlin")
    schedule("--dataset", "fashion-mnist")
    assert served["name"] == "scheduled-fashion-mnist"


def test_a_deployment_need_only_name_what_differs_from_the_defaults() -> None:
    parameters = retrain_flow.retrain_flow.validate_parameters({"config": {"recipe": "fast"}, "gate": {"floor": 0.9}})
    assert parameters["config"] == FAST
    assert (parameters["gate"].floor, parameters["gate"].margin) == (0.9, 0.005)
    assert parameters["source"].name == "mnist"
