"""The Prefect API of a command's own: killed in the middle, and unable to start."""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.conftest import Project, eventually, fails, reach, succeeds
from tests.faults.test_kills import check_all_is_well

MOMENTS = ["Beginning flow run", "Epoch: 1/3", "Epoch: 3/3"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_the_middle_of_a_run_it_comes_back_and_the_run_ends_well(moment: str, project: Project) -> None:
    process = project.train()
    reach(process, moment)
    (server,) = project.servers()
    os.kill(server, signal.SIGKILL)
    succeeds(process)
    check_all_is_well(project, 1)


@pytest.mark.parametrize("home", ["/proc/nowhere", "damaged"])
def test_where_it_cannot_start_its_reason_is_told(home: str, project: Project, tmp_path: Path) -> None:
    if home == "damaged":
        (tmp_path / "prefect.db").write_bytes(b"nonsense" * 1000)
        home = str(tmp_path)
    line = fails(project.train(PREFECT_HOME=home)).splitlines()[-1]
    assert "the Prefect API cannot start: " in line
    assert "nowhere" in line or "file is not a database" in line
    assert f"its home {home} (PREFECT_HOME)" in line
    eventually(lambda: not project.servers())


def test_one_that_is_named_and_does_not_answer_is_told(project: Project) -> None:
    line = fails(project.train(PREFECT_API_URL="http://127.0.0.1:9/api")).splitlines()[-1]
    assert "the Prefect API at http://127.0.0.1:9/api does not answer" in line
