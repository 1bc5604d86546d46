"""Which code, on which machine, made a run."""

import getpass
import platform
import subprocess
from importlib.metadata import version

from mnist_pipeline.config import ROOT


def provenance() -> dict[str, str]:
    """Name, as tags of a run, the versions, the user, the git commit and whether the tree was dirty."""
    versions = {package: version(package) for package in ("torch", "mlflow", "prefect")}
    return {"python": platform.python_version(), **versions, "mlflow.user": getpass.getuser(), **_git_state()}


def _git_state() -> dict[str, str]:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True, text=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        dirty = str(bool(git("status", "--porcelain"))).lower()
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "none"}  # no git here, or a copy of the project that is not a checkout
    return {"git_commit": commit, "git_dirty": dirty, "mlflow.source.git.commit": commit}
