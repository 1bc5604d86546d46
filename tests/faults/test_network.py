"""Nothing is sent anywhere: the commands of the README and of architecture.md look up no name but this machine's."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mnist_pipeline.config import ROOT
from tests.faults.conftest import Process, Project, reach, succeeds
from tests.servers import answers, eventually, free_ports

WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments
        if not isinstance(address, tuple):
            return  # a socket in the file system
        where = address[0]
        with open(os.environ["LOOKED_UP"], "a") as file:
            print(where.decode() if isinstance(where, bytes) else where, file=file)

sys.addaudithook(watch)
"""
TINY = ["--epochs", "1", "--hidden", "16", "--batch-size", "512"]
LOOPBACK = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "None", ""}
REMOVED = ("DO_NOT_TRACK", "CI", "GITHUB_", "PYTEST_", "PREFECT_", "MLFLOW_")  # what would turn telemetry off by itself


class Watched:
    """A project each of whose processes writes down which names it looks up and connects to."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.file = project.root / "looked_up"
        self.user = project.root / "user"
        self.user.mkdir()
        (project.root / "sitecustomize.py").write_text(WATCH)
        shutil.copy(ROOT / "prefect.yaml", project.root)

    def start(self, *words: str, **exports: str) -> Process:
        """Start a command as a user would, whose home is empty."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(REMOVED)}
        own = {"PREFECT_HOME": str(self.project.home), "TMPDIR": str(self.project.temporary), "HOME": str(self.user)}
        own |= {"PYTHONPATH": str(self.project.root), "LOOKED_UP": str(self.file)}
        own |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        process = subprocess.Popen(
            words,
            cwd=self.project.root,
            env=environment | own | exports,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.project.started.append(process)
        return process

    def check(self) -> None:
        """Check that no other machine's name was looked up, and that no id of this installation was written."""
        assert "127.0.0.1" in self.names()
        assert self.names() <= LOOPBACK
        assert not list(self.user.rglob("*mlflow*"))

    def names(self) -> set[str]:
        return set(self.file.read_text().splitlines()) if self.file.exists() else set()


def documented(file: str, ports: dict[str, int]) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the commands of Prefect and MLflow on a page, with what is exported before them, on other ports."""
    for block in re.findall(r"```console\n(.*?)```", (ROOT / file).read_text(), re.DOTALL):
        exports: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            for port, other in ports.items():
                line = line.replace(port, str(other))
            words = shlex.split(line, comments=True)
            if words[:1] == ["export"]:
                exports |= dict(word.split("=", 1) for word in words[1:])
            elif words and Path(words[0]).name in ("prefect", "mlflow"):
                yield exports, [str(Path(sys.executable).with_name(Path(words[0]).name)), *words[1:]]


def serves(process: Process, port: str) -> bool:
    assert process.poll() is None, process.communicate()
    return answers(f"http://127.0.0.1:{port}/health")


def test_the_documented_commands_of_prefect_and_mlflow_look_up_no_other_machine(project: Project) -> None:
    watched = Watched(project)
    succeeds(watched.start(sys.executable, "flows/train_flow.py", *TINY))
    prefect, *others = free_ports(3)
    ports = {"4200": prefect, "5000": others[0], "5001": others[1]}
    address = f"http://127.0.0.1:{prefect}"
    watched.start(sys.executable, "-m", "flows.ui", "prefect", PREFECT_UI_URL=address)
    eventually(lambda: answers(f"{address}/api/health"))
    commands = [*documented("README.md", ports), *documented("docs/architecture.md", ports)]
    assert len(commands) >= 6
    for exports, words in commands:
        named = {name: value.replace("$PWD", str(project.root)) for name, value in exports.items() if name != "PATH"}
        process = watched.start(*words, **named)
        if {"serve", "server"} & set(words):
            eventually(partial(serves, process, words[words.index("--port") + 1]), within=180)
            process.terminate()
        elif "worker" in words:
            reach(process, "started")
        else:
            succeeds(process)
    watched.check()
