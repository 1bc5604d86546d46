"""The Prefect API of a command: it leaves when the command ends, whatever it still has to do."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from flows.prefect_api import ensure_prefect_api, has_ui, serve_forever
from mnist_pipeline.config import ROOT
from mnist_pipeline.tracking.processes import try_lock
from mnist_pipeline.web import listen
from tests.servers import answers, children, eventually, free_port

COMMAND = """
import sys
from flows.prefect_api import start_prefect_api
print(start_prefect_api(), flush=True)
sys.stdin.read()
"""

JOIN = """
import sys
from flows import prefect_api
prefect_api.ensure_prefect_api()
print("joined", flush=True)
sys.stdin.read()
"""


def task_has_begun() -> dict[str, object]:
    """An event of which the API keeps a record, sooner or later."""
    task = {"prefect.resource.id": f"prefect.task-run.{uuid4()}", "prefect.resource.name": "a task"}
    event = "prefect.task-run.Running"
    return {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat(), "event": event, "resource": task}


def test_a_locked_database_does_not_keep_it(prefect_api: str, home: Path) -> None:
    pipe = subprocess.PIPE
    command = subprocess.Popen([sys.executable, "-c", COMMAND], cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert command.stdin
    assert command.stdout
    url = command.stdout.readline().strip()
    (server,) = children(command.pid)
    assert httpx.get(f"{url}/health", timeout=60).json() is True

    lock = sqlite3.connect(home / "prefect" / "prefect.db", timeout=60, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        httpx.post(f"{url}/events", json=[task_has_begun()]).raise_for_status()
        command.stdin.close()
        eventually(lambda: not Path(f"/proc/{server}").exists(), within=10)  # it would wait a minute for the lock
    finally:
        lock.close()
    assert command.wait(timeout=10) == 0


def test_the_server_that_replaces_another_knows_its_leases(prefect_api: str) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", COMMAND], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as command:
        assert command.stdout
        limits = f"{command.stdout.readline().strip()}/v2/concurrency_limits"
        httpx.post(f"{limits}/", json={"name": "lease", "limit": 1}, timeout=60).raise_for_status()
        slot = {"names": ["lease"], "slots": 1, "mode": "concurrency", "lease_duration": 300}
        answer = httpx.post(f"{limits}/increment-with-lease", json=slot, timeout=60).raise_for_status()
        lease = answer.json()["lease_id"]
        (server,) = children(command.pid)
        os.kill(server, signal.SIGKILL)
        eventually(lambda: {*children(command.pid)} - {server})
        renewed = httpx.post(f"{limits}/leases/{lease}/renew", json={"lease_duration": 300}, timeout=60)
        command.communicate()
    assert renewed.is_success  # or the run that holds it would be ended


def without_api() -> dict[str, str]:
    """Return this session's environment, without the API that it shares."""
    return {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}


def used_api(**environment: str) -> str:
    """Return what a command says, and which API it uses."""
    code = "import os, flows.prefect_api as p; p.ensure_prefect_api(); print(os.environ['PREFECT_API_URL'])"
    command = [sys.executable, "-c", code]
    own = without_api() | environment
    result = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    return result.stderr + result.stdout


def test_a_command_joins_the_lasting_server_of_its_own_home_and_says_so(tmp_path: Path) -> None:
    with try_lock(tmp_path, "server-4321-43210") as acquired:  # as a lasting server holds it
        assert acquired
        said = used_api(PREFECT_HOME=str(tmp_path))
        assert "Prefect: http://127.0.0.1:4321, this project's server\n" in said
        assert said.endswith("http://127.0.0.1:43210/api\n")  # a port that no other program has
        assert "4321" not in used_api(PREFECT_HOME=str(tmp_path / "another"))
    assert "4321" not in used_api(PREFECT_HOME=str(tmp_path))


def test_one_of_the_commands_that_have_joined_a_server_goes_on_with_it_when_it_ends(
    prefect_api: str, home: Path, tmp_path: Path
) -> None:
    httpx.get(f"{prefect_api}/health", timeout=60).raise_for_status()  # its database is there
    with contextlib.closing(sqlite3.connect(home / "prefect" / "prefect.db", timeout=60)) as database:
        database.execute("VACUUM INTO ?", [str(tmp_path / "prefect.db")])  # a new one takes eight seconds
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/health"
    pipe = subprocess.PIPE
    with try_lock(tmp_path, f"server-4321-{port}"), listen(port, remedy=""):  # as a lasting server has them
        joined = [
            subprocess.Popen(
                [sys.executable, "-c", JOIN],
                cwd=ROOT,
                env=without_api() | {"PREFECT_HOME": str(tmp_path)},
                stdin=pipe,
                stdout=pipe,
                text=True,
            )
            for _ in range(2)
        ]
        assert [command.stdout and command.stdout.readline() for command in joined] == ["joined\n", "joined\n"]
        assert not any(children(command.pid) for command in joined)
    for _ in range(2):  # the first that takes it, and when that one ends, the other
        eventually(lambda: answers(url))
        (server,) = [command for command in joined if children(command.pid)]
        server.communicate(timeout=20)
        joined.remove(server)
    assert not answers(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:4200", "127.0.0.1:4200/api", "http://prefect.example/apis"])
def test_an_address_that_is_no_api_is_refused(url: str) -> None:
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(ValueError, match=f"PREFECT_API_URL must .* {url}$"):
        ensure_prefect_api()


@pytest.mark.parametrize("url", ["127.0.0.1:4200", "http://127.0.0.1:http", "http:", "http://me:secret@127.0.0.1"])
def test_an_address_that_the_lasting_server_cannot_have_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_UI_URL", url)
    with pytest.raises(ValueError, match=r"PREFECT_UI_URL must be an address such as .*, not [^@]*$"):
        serve_forever()


@pytest.mark.parametrize(
    ("api", "has"),
    [
        (None, False),  # a notebook's, which Prefect starts by itself
        ("http://127.0.0.1:8765/api", False),  # a command's own
        ("http://127.0.0.1:9/api", True),
        ("http://prefect.example/api", True),
    ],
)
def test_a_link_is_given_only_to_an_api_that_has_pages(api: str | None, has: bool) -> None:
    settings = {PREFECT_UI_URL: "http://127.0.0.1:9"} | ({PREFECT_API_URL: api} if api else {})
    with temporary_settings(settings, restore_defaults={PREFECT_API_URL}):
        assert has_ui() is has
