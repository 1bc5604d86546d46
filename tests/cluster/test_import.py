"""A project that began alone moves to the servers of docs/scale.md, by the command of docs/starting.md."""

import re
import shlex
from collections.abc import Callable

import pytest
from mlflow import MlflowClient

from mnist_pipeline.config import ROOT
from mnist_pipeline.tracking import models, store
from mnist_pipeline.tracking.registry import Registry
from tests.cluster.conftest import Machine
from tests.tracking.test_transfer import PIXELS, local, runs_of, same_logged_model, version_of

pytestmark = pytest.mark.cluster
__all__ = ["local"]  # the fixture

REGISTRY = Registry("mnist-mlp")


def command(uri: str) -> list[str]:
    """Return the words of docs/starting.md's command, for the database `uri`."""
    (line,) = re.findall(
        r"^\S+ flows/champion.py import .*$", (ROOT / "docs" / "starting.md").read_text(), re.MULTILINE
    )
    return [uri if word.startswith("sqlite:") else word for word in shlex.split(line, comments=True)]


def test_a_local_project_moves_to_postgresql_and_s3(
    local: str, addresses: dict[str, str], machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", local)
        store.prepare()
        expected = models.load_network("models:/mnist-mlp@champion")(PIXELS)
    yours = machine("yours")
    assert "Imported 3 versions of mnist-mlp and 5 runs: version 3 is the champion" in yours.run(command(local))
    assert "Nothing to import: all versions of mnist-mlp are there" in yours.run(command(local))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", addresses["MLFLOW_TRACKING_URI"])
    store.prepare()
    original, imported = MlflowClient(local), store.client()
    assert REGISTRY.versions == [1, 3, 4]
    assert (REGISTRY.champion, REGISTRY.version("previous_champion")) == (3, 1)
    assert [entry.champion for entry in REGISTRY.history()] == [1, 3]
    assert runs_of(imported).keys() == runs_of(original).keys() - {"goes on"}
    for number in (1, 3):
        old, new = (version_of(client, number) for client in (original, imported))
        same_logged_model(original, old.source, imported, new.source)
    assert expected.equal(models.load_network("models:/mnist-mlp@champion")(PIXELS))
