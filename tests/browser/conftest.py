"""The servers, as their commands start them, and a real browser."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from flows.train_flow import Trained
from mnist_pipeline.config import ROOT
from tests.servers import answers, eventually, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser

OTHER_SITE = "other.example"  # which the browser finds on this machine


@contextlib.contextmanager
def served(module: str, *options: str, health: str = "/health") -> Iterator[str]:
    """Run the server that `module` is the command of, on a free port; yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", *module.split(), "--port", str(port), *options]
    environment = os.environ | {"WEB_CONCURRENCY": "4"}  # as hosting services set it
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}{health}") or server.poll() is not None, within=120)
        assert server.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def serving_url(trained: Trained) -> Iterator[str]:
    with served("serving") as url:
        yield url


@pytest.fixture(scope="session")
def mlflow_url() -> Iterator[str]:
    with served("flows.ui mlflow") as url:
        yield url


@pytest.fixture(scope="session")
def prefect_url() -> Iterator[str]:
    with served("flows.ui prefect", health="/api/health") as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium: make test-browser installs it"
    arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {OTHER_SITE} 127.0.0.1"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()
