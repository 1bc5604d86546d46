"""The command that serves."""

import subprocess
import sys

import pytest

from flows.train_flow import Trained
from mnist_pipeline.config import ROOT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "99999"], 'Invalid value "99999" for --port. Must be <= 65535.'),
        (["--min-confidence", "2"], "--min-confidence must be between 0 and 1, not 2.0"),
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines in: set MNIST_PIPELINE_TOKEN, or add --no-token"),
        (["--prot", "8000"], "Unknown option: --prot. Did you mean --port?"),
        (["--log", "served.db"], "unexpected argument served.db: options begin with --, and --help lists them"),
    ],
)
def test_a_bad_option_of_the_server_is_reported_in_one_line(trained: Trained, options: list[str], message: str) -> None:
    command = [sys.executable, "-m", "serving", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"serving: {message}")
    assert done.stderr.count("\n") == 1
