"""The disk is full at each stage: a clear error, the databases intact, and all works again once there is room."""

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.conftest import MakeProject, Project, fails, reach, succeeds
from tests.faults.test_kills import check_all_is_well, statuses

SIGNS = ["No space left", "disk is full", "disk I/O", "room"]
SIZE = 120  # MiB: the data takes 66 of them


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Take all the room there is, but for so many bytes."""
    filler = folder / "filler"
    room = os.statvfs(folder)
    with contextlib.suppress(OSError), filler.open("wb") as file:
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))
    return filler


def check_databases(project: Project) -> None:
    for file in (project.database, project.home / "prefect.db"):
        if file.exists():
            with closing(sqlite3.connect(file)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


BEGINNINGS = [0, 20_000_000]  # bytes that are left: none, or some of what the data takes
STAGES = {  # what is said when it begins, and the bytes that are left then
    "as the run begins": ("Beginning flow run", 0),
    "after the data": ("'split' - Finished", 0),
    "in the training": ("Epoch: 1/3", 0),
    "before the figures": ("'evaluate' - Finished", 50_000),
    "before the model": ("'visualize' - Finished", 100_000),
}


def check_complaint(project: Project, output: str) -> None:
    assert "Traceback" not in output, output
    assert any(sign in output.splitlines()[-1] for sign in SIGNS), output
    check_databases(project)


def test_a_disk_that_is_full_from_the_start_is_reported_and_with_room_all_works(
    disk: Path, make_project: MakeProject
) -> None:
    project = make_project(disk / "project", fresh=True)
    for leave in BEGINNINGS:
        filler = fill(project.root, leave=leave)
        check_complaint(project, fails(project.train()))
        filler.unlink()
    project.trains()
    check_all_is_well(project, 1)


def test_a_disk_that_fills_up_at_each_stage_loses_nothing(disk: Path, make_project: MakeProject) -> None:
    project = make_project(disk / "project")
    for words, leave in STAGES.values():
        finished = statuses(project)["FINISHED"]
        process = project.train()
        output = reach(process, words)
        filler = fill(project.root, leave=leave)
        rest, _ = process.communicate(timeout=240)
        if process.returncode:
            check_complaint(project, output + rest)
        else:  # the room that was left was enough
            assert statuses(project)["FINISHED"] == finished + 1
            check_databases(project)
        filler.unlink()
    finished = statuses(project)["FINISHED"]
    project.trains()
    check_all_is_well(project, finished + 1)


def test_an_import_onto_a_full_disk_is_reported_and_with_room_all_works(disk: Path, used: Project) -> None:
    command = ["flows/champion.py", "import", "--from", f"sqlite:///{used.database}"]
    for room in (0, 2_000_000):  # for nothing, or for a database
        filler = fill(disk, leave=room)
        output = fails(used.start(*command, MLFLOW_TRACKING_URI=f"sqlite:///{disk}/mlflow.db"))
        assert any(sign in output.splitlines()[-1] for sign in SIGNS), output
        assert not [file for file in disk.glob("mlartifacts/**/*") if file.is_file()]
        filler.unlink()
    succeeds(used.start(*command, MLFLOW_TRACKING_URI=f"sqlite:///{disk}/mlflow.db"))
