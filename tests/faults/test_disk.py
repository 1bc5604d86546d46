"""The disk is full at each stage: a clear error, the databases intact, and all works again once there is room."""

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.conftest import TINY, Project, fails, reach, succeeds
from tests.faults.test_kills import check_all_is_well, statuses

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


@pytest.fixture
def project(disk: Path, make_project: Callable[[Path], Project]) -> Project:
    return make_project(disk / "project")


def fill(project: Project, *, leave: int = 0) -> Path:
    """Take all the room there is, but for so many bytes."""
    filler = project.root / "filler"
    room = os.statvfs(project.root)
    with contextlib.suppress(OSError), filler.open("wb") as file:
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))
    return filler


def check_databases(project: Project) -> None:
    for file in (project.database, project.home / "prefect.db"):
        if file.exists():
            with closing(sqlite3.connect(file)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


STAGES = {
    "before the first byte": (None, 0),
    "while the data comes": (None, 20_000_000),
    "as the run begins": ("Beginning flow run", 0),
    "after the data": ("'split' - Finished", 0),
    "in the training": ("Epoch: 1/3", 0),
    "before the figures": ("'evaluate' - Finished", 50_000),
    "before the model": ("'visualize' - Finished", 100_000),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_ends_in_a_clear_error_and_loses_nothing(stage: str, project: Project) -> None:
    moment, leave = STAGES[stage]
    process = None
    if moment is None:
        filler = fill(project, leave=leave)
        output = fails(project.train())
    else:
        process = project.train(*TINY)
        output = reach(process, moment)
        filler = fill(project, leave=leave)
        rest, _ = process.communicate(timeout=240)
        output += rest
        if process.returncode == 0:  # the room that was left was enough
            assert statuses(project)["FINISHED"] == 1
    if process is None or process.returncode:
        assert "Traceback" not in output, output
        assert any(sign in output.splitlines()[-1] for sign in ("No space left", "disk is full", "disk I/O", "room")), (
            output
        )
    check_databases(project)
    filler.unlink()
    finished = statuses(project)["FINISHED"]
    succeeds(project.train())
    check_all_is_well(project, finished + 1)
