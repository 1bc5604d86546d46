"""What a schedule carries from the command line to each of its runs: JSON, which the flow reads back."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows import cli, retrain_flow
from mnist_pipeline.config import FAST

PARAMETERS = ("config", "source", "gate", "fresh", "skip_unchanged")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Prefect receives, in place of serving until a signal comes."""
    received: dict[str, Any] = {}
    monkeypatch.setattr(retrain_flow.retrain_flow, "serve", received.update)
    return received


def schedule(*arguments: str) -> dict[str, Any]:
    """Serve what the command line asks for; return its options."""
    options = cli.parse(cli.retrain, ["--cron", "0 3 * * *", "--timezone", "Europe/Berlin", *arguments])
    retrain_flow.serve(options["cron"], options["timezone"], {name: options[name] for name in PARAMETERS})
    return options


def test_each_run_of_a_schedule_gets_the_options_of_the_command(served: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "letters"
    own.mkdir()
    data = ["--dataset", str(own), "--extra", str(tmp_path), "--image-size", "16"]
    options = schedule(*data, "--recipe", "accurate", "--hidden", "30", "20", "--floor", "0.9", "--skip-unchanged")
    parameters = retrain_flow.retrain_flow.validate_parameters(json.loads(json.dumps(served["parameters"])))
    assert parameters == {name: options[name] for name in PARAMETERS}


def test_a_schedule_has_the_times_and_the_name_of_its_dataset(served: dict[str, Any], tmp_path: Path) -> None:
    schedule()
    assert served["name"] == "scheduled"
    assert (served["schedule"].cron, served["schedule"].timezone) == ("0 3 * * *", "Europe/Berlin")
    schedule("--dataset", "fashion-mnist")
    assert served["name"] == "scheduled-fashion-mnist"


def test_a_deployment_need_only_name_what_differs_from_the_defaults() -> None:
    parameters = retrain_flow.retrain_flow.validate_parameters({"config": {"recipe": "fast"}, "gate": {"floor": 0.9}})
    assert parameters["config"] == FAST
    assert (parameters["gate"].floor, parameters["gate"].margin) == (0.9, 0.005)
    assert parameters["source"].name == "mnist"
