"""A copy of the project for each fault, the processes that suffer it, and how many are tried."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from mlflow import MlflowClient

from mnist_pipeline.config import ROOT
from tests.servers import with_default_signals

KILLS = int(os.environ.get("FAULTS_KILLS", "8"))
REQUESTS = int(os.environ.get("FAULTS_REQUESTS", "600"))
SEED = int(os.environ.get("FAULTS_SEED", str(random.SystemRandom().randrange(10**6))))
TINY = ["--epochs", "3", "--hidden", "16", "--batch-size", "512"]

Process = subprocess.Popen[str]


def pytest_report_header() -> str:
    return f"faults: FAULTS_KILLS={KILLS} FAULTS_REQUESTS={REQUESTS} FAULTS_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture
def chance() -> random.Random:
    """Random numbers from FAULTS_SEED, which is in the first lines of the output."""
    return random.Random(SEED)


@dataclass(frozen=True)
class Project:
    """A copy of the project: all that it writes, and Prefect's home, is in its folder."""

    root: Path
    like: Path | None = None  # another, whose data it copies, and its databases before they held anything
    environment: dict[str, str] = field(default_factory=dict)  # of its commands, beside what `start` gives them
    started: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        for room in ("flows", "tasks", "serving", "mnist_pipeline"):
            shutil.copytree(ROOT / room, self.root / room)
        for folder in (self.home, self.temporary):
            folder.mkdir()
        if self.like:
            shutil.copytree(self.like / "MNIST_data", self.root / "MNIST_data")
            shutil.copy(self.like / "prefect.db", self.home)
            shutil.copy(self.like / "empty.db", self.database)

    @property
    def home(self) -> Path:
        return self.root / "prefect"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def mlflow(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.database}")

    def start(self, *words: str, **environment: str) -> Process:
        """Start `python WORDS` in the project, as a user would, with nothing of this session's but the data."""
        return self.start_program(sys.executable, *words, **environment)

    def start_program(self, *command: str, **environment: str) -> Process:
        own = {"PYTHONPATH": str(self.root), "PREFECT_HOME": str(self.home), "TMPDIR": str(self.temporary)}
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=ours | own | {"PREFECT_UI_URL": "http://127.0.0.1:9"} | self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=with_default_signals,
        )
        self.started.append(process)
        return process

    def train(self, *options: str, **environment: str) -> Process:
        return self.start("flows/train_flow.py", *(options or TINY), **environment)

    def trains(self, *options: str, **environment: str) -> str:
        """Train to the end, which must be a good one; return what was printed."""
        return succeeds(self.train(*options, **environment))

    def servers(self) -> list[int]:
        """Return the ids of the Prefect APIs that this project's commands have started, dead or alive."""
        return [pid for pid, words in processes() if "flows.prefect_server" in words and self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return f"PREFECT_HOME={self.home}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    def clean_up(self) -> None:
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        for pid in self.servers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def first_training(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Project, float]:
    """A project that has trained, and the seconds that it took."""
    project = Project(tmp_path_factory.mktemp("faults") / "used")
    for copy in (project.database, project.root / "empty.db"):
        shutil.copy(empty_database, copy)
    begun = time.monotonic()
    project.trains()
    lasted = time.monotonic() - begun
    with contextlib.closing(sqlite3.connect(project.home / "prefect.db")) as database:
        database.execute("VACUUM INTO ?", [str(project.root / "prefect.db")])  # no schedule has run yet
    return project, lasted


@pytest.fixture(scope="session")
def used(first_training: tuple[Project, float]) -> Project:
    """A project that has trained before."""
    return first_training[0]


@pytest.fixture(scope="session")
def lasts(first_training: tuple[Project, float]) -> float:
    """The seconds that a training takes on this machine."""
    return first_training[1]


class MakeProject(Protocol):
    def __call__(self, root: Path, *, fresh: bool = False) -> Project: ...


@pytest.fixture
def make_project(used: Project, tmp_path: Path) -> Iterator[MakeProject]:
    """Make projects that have the data and empty databases; `fresh` ones have nothing."""
    projects = []

    def make(root: Path, *, fresh: bool = False) -> Project:
        projects.append(Project(root, None if fresh else used.root))
        return projects[-1]

    yield make
    for project in projects:
        project.clean_up()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def project(make_project: MakeProject, tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make `folder` read-only, even for root."""
    bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, text=True)
    if bound.returncode:
        pytest.skip(f"nothing can be mounted here: {bound.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def succeeds(process: Process, *, within: float = 240) -> str:
    output, _ = process.communicate(timeout=within)
    assert process.returncode == 0, output
    return output


def fails(process: Process, *, within: float = 120) -> str:
    """Check that a command fails without a traceback; return all that it printed."""
    output, _ = process.communicate(timeout=within)
    assert process.returncode not in (0, None), output
    assert process.returncode > 0, output
    assert "Traceback" not in output, output
    return output


def reach(process: Process, words: str) -> str:
    """Read what `process` prints until `words` appear."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def processes() -> Iterator[tuple[int, str]]:
    """Yield all processes that have not ended, each with its command line."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if words := (folder / "cmdline").read_bytes():
                yield int(folder.name), words.replace(b"\0", b" ").decode(errors="replace")
