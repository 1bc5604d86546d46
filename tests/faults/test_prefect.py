"""The Prefect API: killed in the middle of a run, unable to start, and asked by strangers."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from mnist_pipeline.web import listen
from tests.faults.conftest import TINY, Process, Project, fails, reach, succeeds
from tests.faults.test_kills import check_all_is_well, prefect_states, statuses
from tests.servers import answers, eventually, free_port

MOMENTS = ["Beginning flow run", "Epoch: 3/3"]


def test_an_api_that_is_killed_twice_in_a_run_is_replaced_and_the_run_ends_well(project: Project) -> None:
    process = project.train()
    killed: list[int] = []
    for moment in MOMENTS:
        reach(process, moment)
        eventually(lambda: {*project.servers()} - {*killed})
        (server,) = {*project.servers()} - {*killed}
        os.kill(server, signal.SIGKILL)
        killed.append(server)
    succeeds(process)
    check_all_is_well(project, 1)


@pytest.mark.parametrize("folder", ["/proc/nowhere", "damaged"])
def test_an_api_that_cannot_start_is_reported_with_its_reason(folder: str, project: Project, tmp_path: Path) -> None:
    if folder == "damaged":
        (tmp_path / "prefect.db").write_bytes(b"nonsense" * 1000)
        folder = str(tmp_path)
    line = fails(project.train(PREFECT_HOME=folder)).splitlines()[-1]
    assert "the Prefect API cannot start: " in line
    assert "nowhere" in line or "file is not a database" in line
    assert f"its home {folder} (PREFECT_HOME)" in line
    eventually(lambda: not project.servers())


def test_a_named_api_that_does_not_answer_is_reported(project: Project) -> None:
    line = fails(project.train(PREFECT_API_URL="http://127.0.0.1:9/api")).splitlines()[-1]
    assert "the Prefect API at http://127.0.0.1:9/api does not answer" in line


def test_a_lasting_server_that_is_killed_in_the_middle_loses_nothing(project: Project) -> None:
    address = f"http://127.0.0.1:{free_port()}"

    def start() -> Process:
        lasting = project.start("-m", "flows.ui", "prefect", PREFECT_UI_URL=address)
        eventually(lambda: answers(f"{address}/api/health"))
        return lasting

    first = start()
    impatient = {"PREFECT_CLIENT_MAX_RETRIES": "1"}  # as it comes, Prefect's client gives up after four minutes
    process = project.train(*TINY, PREFECT_API_URL=f"{address}/api", **impatient)
    reach(process, "Epoch: 1/3")
    for server in (first.pid, *project.servers()):
        os.kill(server, signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    if process.returncode:
        assert f"the Prefect API at {address}/api does not answer" in output
    lasting = start()
    finished = statuses(project)["FINISHED"]
    project.trains(*TINY, PREFECT_API_URL=f"{address}/api")
    lasting.terminate()
    check_all_is_well(project, finished + 1)


def test_a_training_goes_on_when_the_server_that_it_has_joined_is_stopped(project: Project) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    schedule = ["flows/retrain_flow.py", "--cron", "0 3 1 1 *", "--recipe", "fast"]
    server = project.start(*schedule, PREFECT_UI_URL=address)
    eventually(lambda: answers(f"{address}/api/health"))
    process = project.train(PREFECT_UI_URL=address)
    reach(process, "Epoch: 1/3")
    server.terminate()
    assert server.wait(timeout=10) == 128 + signal.SIGTERM
    with listen(int(address[-5:]), remedy=""):  # another program, on the port of its UI
        assert "the server that this command had joined has ended: it runs one itself now\n" in succeeds(process)
    check_all_is_well(project, 1)


def test_the_api_refuses_other_host_names_and_other_origins(prefect_api: str) -> None:
    with httpx.Client(base_url=prefect_api, timeout=60) as client:  # it may be booting
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400
        answer = client.get("/health", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_a_run_that_is_cancelled_in_prefect_stops_and_can_be_resumed(project: Project) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    project.start("-m", "flows.ui", "prefect", PREFECT_UI_URL=address)
    eventually(lambda: answers(f"{address}/api/health"))
    options = ["--epochs", "300", "--hidden", "16", "--batch-size", "512"]
    process = project.train(*options)
    assert f"Prefect: {address}, this project's server" in reach(process, "Epoch: 2/300")
    (flow_run,) = (run for run, state in prefect_states(project).items() if state == "RUNNING")
    cancel = {"state": {"type": "CANCELLING"}}  # what the UI's button sends
    httpx.post(f"{address}/api/flow_runs/{flow_run}/set_state", json=cancel).raise_for_status()
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 130
    assert output.splitlines()[-1].endswith("cancelled in Prefect; the same command resumes where this one stopped")
    assert "Traceback" not in output
    assert prefect_states(project)[flow_run] == "CANCELLED"
    assert statuses(project) == {"KILLED": 1}
    assert "Resuming the MLflow run" in reach(project.train(*options), "Epoch: 2/300")
