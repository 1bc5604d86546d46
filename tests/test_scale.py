"""What docs/scale.md and its compose file say, says the same."""

import re
import shlex
from typing import Any

import pytest
import yaml

from mnist_pipeline.config import ROOT
from tests.cluster.handbook import block

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "compose.yaml").read_text())


@pytest.mark.parametrize("name", ["bucket", "tracker", "prefect", "dask", "worker", "trials", "server"])
def test_a_service_runs_the_documented_command_with_the_documented_settings(name: str) -> None:
    exports, (words,) = block(name)
    service = COMPOSE["services"][name]
    assert shlex.split(service["command"]) == words
    expected = block("addresses")[0] if name in ("worker", "trials", "server") else exports
    environment = dict(service.get("environment", {}))
    assert environment.pop("MNIST_PIPELINE_TOKEN", None) == ("${MNIST_PIPELINE_TOKEN:-}" if name == "server" else None)
    assert environment == expected


def test_the_database_begins_with_the_documented_statements() -> None:
    ((_, *words),) = block("db")[1]
    statements = [word for word in words if word != "--command"]
    assert [f"{each};" for each in statements] == COMPOSE["configs"]["databases"]["content"].splitlines()


def test_each_service_depends_on_one_that_is_there() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()


def test_each_host_that_is_called_is_a_service() -> None:
    words = (ROOT / "docs" / "scale.md").read_text()
    hosts = set(re.findall(r"(?:@|//)(\w+):\d+", words))
    assert hosts <= COMPOSE["services"].keys()
