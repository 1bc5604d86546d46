"""Which code, on which machine, made a run."""

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from mnist_pipeline.config import CODE, TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.text import counted
from mnist_pipeline.tracking.ledger import user_name


def provenance() -> dict[str, str]:
    """Return, as tags of a run, the versions, the user, the machine, the commit and whether code differs from it."""
    versions = {package: version(package) for package in ("torch", "mlflow", "prefect")}
    system = platform.uname()
    machine = f"{system.system} {system.release}, {system.machine}, {counted(os.cpu_count() or 1, 'core')}"
    own = {"mlflow.user": user_name(), "machine": machine}
    return {"python": platform.python_version(), **versions, **own, **_git_state()}


def fingerprint(config: TrainConfig, splits: Splits) -> str:
    """Return a hash of what decides what a training produces: config, data, their name, code and torch's version."""
    code = hashlib.sha256()
    library = Path(__file__).parents[1]
    for file in sorted([*library.rglob("*.py"), *(library.parent / "tasks").glob("*.py")]):
        code.update(file.relative_to(library.parent).as_posix().encode() + b"\0" + file.read_bytes())
    parts = {
        "config": asdict(config),
        "dataset": splits.source.name,  # and so its experiment and its model
        "data": splits.sha256,
        "schema": asdict(splits.schema),
        "code": code.hexdigest(),
        "torch": version("torch"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _git_state() -> dict[str, str]:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=CODE, capture_output=True, check=True, text=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # site-packages may be within another project's checkout
        commit = git("rev-parse", "HEAD")
        dirty = str(bool(git("status", "--porcelain", "--", "*.py", "*.toml", "*.txt"))).lower()
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "none"}  # there is no git, or this is not a checkout
    return {"git_commit": commit, "git_dirty": dirty, "mlflow.source.git.commit": commit}
