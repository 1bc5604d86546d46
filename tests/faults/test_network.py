"""The commands of the README and of architecture.md run as they are written, and look up no name but this machine's."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mnist_pipeline.config import ROOT
from mnist_pipeline.data import mnist
from mnist_pipeline.data.source import DataSource
from tests.data.files import write_pictures
from tests.faults.conftest import Process, Project, reach, succeeds
from tests.servers import answers, eventually, free_ports
from tests.test_readme import commands, made

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
BUILD = ("python3", "pip", "pytest")  # these commands' subject is the environment that this test runs in
DOWNLOADED = "fashion-mnist"
SMALL_SWEEP = {"--trials": "2", "--epochs": "1", "--layers": "1", "--units": "16", "--batch-size": "512"}
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
    """Yield the commands of a page, with what is exported before them: each once, on other ports, and shorter."""
    seen: list[list[str]] = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / file).read_text(), re.DOTALL):
        exports: dict[str, str] = {}
        for words in commands(block):
            if words[0] == "export":
                exports |= dict(word.split("=", 1) for word in words[1:])
                continue
            name, *rest = made(words) if words[0] == "make" else words
            command = shorter([Path(name).name, *(elsewhere(word, ports) for word in rest)])
            left_out = command[0] in BUILD or DOWNLOADED in command or is_variant(command)
            if not left_out and command not in seen:
                seen.append(command)
                yield {name: elsewhere(value, ports) for name, value in exports.items()}, command


def elsewhere(text: str, ports: dict[str, int]) -> str:
    for port, other in ports.items():
        text = text.replace(port, str(other))
    return text


def is_variant(words: list[str]) -> bool:
    """Return whether a command is another one with other options, which test_readme.py parses."""
    training = "flows/train_flow.py" in words and "--dataset" not in words and len(words) > 4
    return training or ("flows/sweep_flow.py" in words and not {"--resume", "--pruner"}.isdisjoint(words))


def shorter(words: list[str]) -> list[str]:
    """Return a training or a sweep with an epoch and a few trials of small networks."""
    if "flows/sweep_flow.py" in words:
        for option, value in SMALL_SWEEP.items():
            words = with_option(words, option, value)
        return words
    return with_option(words, "--epochs", "1") if "flows/train_flow.py" in words else words


def with_option(words: list[str], option: str, value: str) -> list[str]:
    if option not in words:
        return [*words, option, value]
    place = words.index(option) + 1
    return [*words[:place], value, *words[place + 1 :]]


def as_server(words: list[str], ports: dict[str, int]) -> tuple[list[str], int]:
    """Return a command with its port, if it is a server, and that port; 0 for other commands."""
    if "serving" in words:
        return [*words, "--port", str(ports["8000"]), "--log"], ports["8000"]  # what is then watched
    if "flows.ui" in words:
        port = ports["5000" if "mlflow" in words else "4200"]
        return [*words, "--port", str(port)], port
    return words, int(words[words.index("--port") + 1]) if "--port" in words else 0


def serves(process: Process, port: int) -> bool:
    assert process.poll() is None, process.communicate()
    return any(answers(f"http://127.0.0.1:{port}/{page}") for page in ("health", "api/health"))


@pytest.fixture
def watched(project: Project) -> Watched:
    """A project with the images that the pages suppose to be there."""
    digits = mnist.read("mnist", mnist.download(DataSource()))[1][1].pixels
    for number in range(60):
        write_pictures(project.root / "pets" / "abc"[number % 3], digits[number : number + 1])
    write_pictures(project.root / "photos", digits[:3].repeat(10, axis=1).repeat(10, axis=2))
    shutil.copy(project.root / "photos" / "000.png", project.root / "three.png")
    return Watched(project)


def test_the_documented_commands_run_and_look_up_no_other_machine(watched: Watched) -> None:
    ports = dict(zip(("4200", "5000", "5001", "8000"), free_ports(4), strict=True))
    environment = {"PREFECT_UI_URL": f"http://127.0.0.1:{ports['4200']}"}
    tried: Counter[str] = Counter()
    for exports, words in [*documented("README.md", ports), *documented("docs/architecture.md", ports)]:
        named = {name: value.replace("$PWD", str(watched.project.root)) for name, value in exports.items()}
        named.pop("PATH", None)
        command, port = as_server(words, ports)
        process = watched.start(*command, **environment | named)
        tried[words[0]] += 1
        if port:
            eventually(partial(serves, process, port), within=180)
            if "mlflow" in words:
                process.terminate()  # another on this port follows
                process.wait()
        elif "--cron" in words:
            reach(process, "Next run at")
            process.terminate()
            process.wait()
        elif "worker" in words:
            reach(process, "started")
        else:
            succeeds(process)
    assert tried["python"] >= 15
    assert tried["prefect"] >= 4
    assert tried["mlflow"] >= 2
    watched.check()
