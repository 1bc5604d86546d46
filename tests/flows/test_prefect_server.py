"""The Prefect API of a command: it leaves when the command ends, whatever it still has to do."""

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx

from mnist_pipeline.config import ROOT
from tests.servers import children, eventually

COMMAND = """
import sys
from flows.prefect_server import start_prefect_api
print(start_prefect_api(), flush=True)
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
