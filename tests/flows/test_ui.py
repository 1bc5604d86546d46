"""The commands that serve MLflow's UI, Prefect's and the page, when they cannot."""

import subprocess
import sys

import pytest

from mnist_pipeline.config import ROOT
from mnist_pipeline.web import listen

COMMANDS = {"flows.ui mlflow": "make ui", "flows.ui prefect": "make server", "serving": "make serve"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_busy_port_is_one_line_with_the_command_that_takes_another(command: str) -> None:
    with listen(0, remedy="") as listener:
        port = listener.getsockname()[1]
        words = [sys.executable, "-m", *command.split(), "--port", str(port)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert not done.stdout  # it does not say that it is there
    assert f"port {port} of 127.0.0.1 cannot be used (Address already in use)" in done.stderr
    assert f'{COMMANDS[command]} ARGS="--port ' in done.stderr
    assert done.stderr.count("\n") == 1
