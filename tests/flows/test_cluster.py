"""Where the trials of a search run."""

import subprocess
import sys

import pytest

from mnist_pipeline.config import ROOT

UNWRITABLE = (
    "mount -t tmpfs -o ro none /dev/shm && exec {python} -c 'from flows.cluster import task_runner; task_runner()'"
)


def test_a_machine_that_makes_no_semaphores_is_told_in_one_line() -> None:
    words = ["unshare", "--mount", "sh", "-c", UNWRITABLE.format(python=sys.executable)]
    if subprocess.run([*words[:2], "true"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == (
        "OSError: the workers cannot start: Read-only file system; make /dev/shm writable, with some room"
    )
