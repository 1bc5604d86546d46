"""Several machines on one: the servers of docs/scale.md on loopback, and a home and a folder for each machine."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from mnist_pipeline.config import ROOT
from tests.cluster.handbook import block
from tests.servers import answers, eventually, free_ports

HOSTS = {"db": 5432, "s3": 9000, "tracker": 5000, "prefect": 4200, "dask": 8786}
PROJECT = ("flows", "tasks", "mnist_pipeline", "docs/lost-runs.yaml", "prefect.yaml")
PATIENCE = 300  # seconds: generous, as the machine may be busy


class Machine:
    """A folder with a copy of the project, a home, and an environment that holds nothing else."""

    def __init__(self, root: Path, ports: dict[str, int], **environment: str) -> None:
        self.root, self.ports = root, ports
        self.project = root / "mnist-pipeline"
        for name in PROJECT:
            source, copy = ROOT / name, self.project / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        for folder in ("home", "tmp"):
            (root / folder).mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "tmp"),
            "PREFECT_HOME": str(root / "prefect"),
            "PYTHONPATH": str(self.project),
            "PYTHONUNBUFFERED": "1",
            **{name: self.here(value) for name, value in environment.items()},
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def here(self, word: str) -> str:
        """Read hosts and paths as they are called on this machine."""
        for host, port in HOSTS.items():
            word = word.replace(f"{host}:{port}", f"127.0.0.1:{self.ports[host]}")
        return word.replace("0.0.0.0", "127.0.0.1").replace(".venv/bin/", f"{Path(sys.executable).parent}/")

    def start(self, words: list[str], **environment: str) -> "subprocess.Popen[bytes]":
        """Start a command; what it says goes to the file `log`."""
        ports = {str(port): str(self.ports[host]) for host, port in HOSTS.items()}
        words = [ports[word] if before == "--port" else self.here(word) for before, word in pairwise(["", *words])]
        own = self.environment | {name: self.here(value) for name, value in environment.items()}
        with (self.root / "log").open("ab") as log:
            self.started.append(
                subprocess.Popen(words, cwd=self.project, env=own, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )
        return self.started[-1]

    def run(self, words: list[str], **environment: str) -> str:
        """Run a command to its good end; give all that has been said on this machine."""
        code = self.start(words, **environment).wait(timeout=PATIENCE)
        assert code == 0, self.said
        return self.said

    @property
    def said(self) -> str:
        return (self.root / "log").read_text()

    def cut_off(self) -> None:
        """Kill all that runs here, at once."""
        for process in self.started:
            try:
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for member in family:
                try:
                    member.kill()
                except psutil.NoSuchProcess:
                    continue
            process.wait()


def up(url: str) -> None:
    """Wait until a server answers."""
    eventually(lambda: answers(url), within=PATIENCE)


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return dict(zip(HOSTS, free_ports(len(HOSTS)), strict=True))


@pytest.fixture(scope="module")
def postgres(ports: dict[str, int]) -> Iterator[None]:
    """PostgreSQL with the databases of docs/scale.md; it refuses to run as root."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    owner = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="mnist-pipeline-postgres-") as folder:
        if owner:
            shutil.chown(folder, owner, owner)
        initdb = [str(programs / "initdb"), "--pgdata", f"{folder}/data", "--username", "postgres", "--no-sync"]
        passwords = ["--auth-host", "scram-sha-256", "--auth-local", "trust"]  # as the superuser comes by the socket
        subprocess.run(
            [*initdb, *passwords], cwd=folder, user=owner, group=owner, check=True, stdout=subprocess.DEVNULL
        )
        listening = ["-D", f"{folder}/data", "-h", "127.0.0.1", "-p", str(ports["db"]), "-k", folder]
        server = subprocess.Popen(
            [str(programs / "postgres"), *listening, "-F"],  # without fsync
            cwd=folder,
            user=owner,
            group=owner,
            stderr=subprocess.DEVNULL,
        )
        superuser = os.environ | {"PGHOST": folder, "PGPORT": str(ports["db"]), "PGUSER": "postgres"}
        try:
            ready = [str(programs / "pg_isready"), "--quiet"]
            eventually(lambda: subprocess.run(ready, env=superuser).returncode == 0, within=PATIENCE)
            for command in block("db")[1]:
                subprocess.run(command, env=superuser, check=True, stdout=subprocess.DEVNULL)
            yield
        finally:
            server.send_signal(signal.SIGINT)  # ends its connections
            server.wait()


@pytest.fixture(scope="module")
def machine(ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Machine]]:
    """Yield what makes a machine of a name, which is told the addresses."""
    machines: list[Machine] = []

    def build(name: str) -> Machine:
        machines.append(Machine(tmp_path_factory.mktemp("machines") / name, ports, **block("addresses")[0]))
        return machines[-1]

    yield build
    for each in reversed(machines):
        each.cut_off()


@pytest.fixture(scope="module")
def addresses(postgres: None, machine: Callable[[str], Machine], ports: dict[str, int]) -> dict[str, str]:
    """The servers of docs/scale.md, up; gives the addresses that each machine is told."""
    servers = machine("servers")
    servers.start([".venv/bin/moto_server", "-H", "127.0.0.1", "-p", str(ports["s3"])])
    up(f"http://127.0.0.1:{ports['s3']}/moto-api/")
    for name in ("prefect", "bucket", "tracker", "dask"):
        exports, (words,) = block(name)
        process = servers.start(words, **exports)
        if name == "bucket":
            assert process.wait() == 0, servers.said
    up(f"http://127.0.0.1:{ports['tracker']}/health")
    up(f"http://127.0.0.1:{ports['prefect']}/api/health")
    return {name: servers.environment[name] for name in block("addresses")[0]}
