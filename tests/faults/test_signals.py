"""Long-lived commands that get a signal, in their main process alone: they end soon and leave nothing behind."""

import contextlib
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.conftest import KILLS, Process, Project, fails, reach
from tests.faults.test_kills import prefect_states, statuses
from tests.faults.test_schedule import COMMAND as EVERY_FIVE_SECONDS
from tests.servers import answers, eventually, free_port

COMMANDS = {
    "cron": ["flows/retrain_flow.py", "--cron", "* * * * *", "--recipe", "fast"],
    "server": ["-m", "flows.ui", "prefect"],
    "ui": ["-m", "flows.ui", "mlflow", "--port", "PORT"],
    "serve": ["-m", "serving", "--port", "0"],
}
LONG = ["--cron", "* * * * *", "--epochs", "300", "--hidden", "16", "--batch-size", "512"]
SIGNALS = [signal.SIGINT, signal.SIGTERM]
TERMINAL = "import pty, sys; pty.spawn([sys.executable, *sys.argv[1:]])"  # as long as it lives


def living(project: Project) -> list[str]:
    """Return the command lines of all processes that the project's commands have started and that have not ended."""
    ours = f"PREFECT_HOME={project.home}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if ours in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def start(project: Project, command: str) -> Process:
    port = str(free_port())
    words = [port if word == "PORT" else word for word in COMMANDS[command]]
    return project.start(*words, PREFECT_UI_URL=f"http://127.0.0.1:{port}")


@pytest.fixture
def number(chance: random.Random) -> signal.Signals:
    """One of the two signals that ask a process to end."""
    return chance.choice(SIGNALS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_at_any_moment_ends_it_within_ten_seconds(command: str, used: Project, chance: random.Random) -> None:
    for _ in range(max(1, KILLS // 8)):
        number = chance.choice(SIGNALS)
        process = start(used, command)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(0.05, 8))
        process.send_signal(number)
        output, _ = process.communicate(timeout=10)
        assert "Traceback" not in output, output
        assert process.returncode == 128 + number
        eventually(lambda: not living(used), within=10)


def in_the_middle_of_a_run(project: Project) -> Process:
    """Start a schedule, and wait until one of its runs trains."""
    port = str(free_port())
    process = project.start("-c", EVERY_FIVE_SECONDS, *LONG, PREFECT_UI_URL=f"http://127.0.0.1:{port}")
    eventually(lambda: "RUNNING" in statuses(project), within=120)
    return process


def test_a_schedule_that_is_stopped_in_the_middle_of_a_run_ends_that_run(
    number: signal.Signals, project: Project
) -> None:
    process = in_the_middle_of_a_run(project)
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert "Traceback" not in output, output
    assert statuses(project) == {"KILLED": 1}, output
    # Prefect's runner takes three seconds or more: where it is cut off, the next start closes the run.
    assert set(prefect_states(project).values()) & {"CANCELLED", "CANCELLING", "RUNNING"}
    eventually(lambda: not living(project), within=10)


def test_a_schedule_whose_server_is_gone_for_good_says_so_and_ends(project: Project) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    server = project.start("-m", "flows.ui", "prefect", PREFECT_UI_URL=address)
    eventually(lambda: answers(f"{address}/api/health"))
    impatient = EVERY_FIVE_SECONDS.replace("serve(", "from flows import schedule; schedule.PATIENCE = 5; serve(", 1)
    yearly = ["--cron", "0 3 1 1 *", "--recipe", "fast"]
    process = project.start("-c", impatient, *yearly, PREFECT_API_URL=f"{address}/api")
    reach(process, "Beginning flow run")  # of the schedule
    server.terminate()
    output = fails(process)
    assert f"the Prefect API at {address}/api is gone, so that no run begins; start this schedule again\n" in output
    eventually(lambda: not living(project), within=10)


def test_a_second_signal_ends_a_schedule_at_once(project: Project) -> None:
    process = in_the_middle_of_a_run(project)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=2) == 128 + signal.SIGINT
    eventually(lambda: not living(project), within=10)


def test_a_training_whose_terminal_is_closed_is_killed_and_can_be_resumed(project: Project) -> None:
    terminal = project.start("-c", TERMINAL, "flows/train_flow.py", *LONG[2:])
    reach(terminal, "Epoch: 2/")
    terminal.kill()
    eventually(lambda: not living(project), within=20)
    assert statuses(project) == {"KILLED": 1}
    assert set(prefect_states(project).values()) == {"COMPLETED", "CRASHED"}  # one had been trained before


def test_an_import_that_is_stopped_leaves_nothing_of_itself(
    number: signal.Signals, used: Project, tmp_path: Path
) -> None:
    target = tmp_path / "mlflow.db"
    command = ["flows/champion.py", "import", "--from", f"sqlite:///{used.database}"]
    process = used.start(*command, MLFLOW_TRACKING_URI=f"sqlite:///{target}")
    eventually(lambda: target.exists() and rows(target, "registered_models"), every=0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert (process.returncode, "Traceback" in output) == (128 + number, False), output
    assert not rows(target, "registered_models")
    assert not rows(target, "runs WHERE lifecycle_stage = 'active'")


def rows(database: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_an_export_that_is_stopped_leaves_nothing_of_itself(
    number: signal.Signals, used: Project, tmp_path: Path
) -> None:
    process = used.start("flows/champion.py", "export", "--to", f"{tmp_path}/out", "--page")
    eventually(lambda: [*tmp_path.iterdir()], every=0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert (process.returncode, "Traceback" in output) == (128 + number, False), output
    assert not [*tmp_path.iterdir()]
