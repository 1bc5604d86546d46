"""The ledger is read whichever version wrote it, and keeps its order."""

import json
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from mnist_pipeline.tracking import versions
from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.ledger import TAG_PREFIX, LedgerEntry, next_time
from mnist_pipeline.tracking.registry import Registry

OLD = {  # as version 0.1 wrote it
    "version": 1,
    "action": "kept",
    "champion_before": None,
    "champion": None,
    "reasons": ["accuracy 12.00%, at least 97.00% is asked for"],
    "checks": [{"name": "floor", "passed": False, "finding": "accuracy 12.00%, at least 97.00% is asked for"}],
    "numbers": {"accuracy": 0.12, "won": 3, "lost": 5},
    "exam_sha256": "e" * 64,
    "data": "48,000 images (7895f1a2)",
    "by": "someone",
    "time": "2026-11-01T00:00:00.000000Z",
}


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = LedgerEntry(
        version=2,
        action="promoted",
        champion_before=1,
        champion=2,
        reasons=("better",),
        checks=(Check("floor", True, "good enough"),),
        numbers={"accuracy": 0.98},
        holdout_sha256="h",
        time="2026-11-27T00:00:00.000000Z",
    )
    assert LedgerEntry.from_json(entry.to_json()) == entry


def test_an_entry_of_version_0_1_is_read_under_todays_names() -> None:
    entry = LedgerEntry.from_json(json.dumps(OLD))
    assert (entry.action, entry.holdout_sha256) == ("rejected", "e" * 64)
    assert entry.numbers == {"accuracy": 0.12, "wins": 3, "losses": 5}
    assert [check.passed for check in entry.checks] == [False]


def test_the_registry_of_version_0_1_is_listed_described_and_its_champion_beaten(
    mlflow: MlflowClient, model_files: str
) -> None:
    registry = Registry("old-mlp")
    mlflow.create_registered_model(registry.name)
    tags = {"test_accuracy": "0.9700", "exam_accuracy": "0.9656", "decision": "promoted"}
    promoted = OLD | {"action": "promoted", "champion": 1}
    tags[f"{TAG_PREFIX}{OLD['time']}"] = json.dumps(promoted)
    mlflow.create_model_version(registry.name, model_files, tags=tags)
    mlflow.set_registered_model_alias(registry.name, "champion", "1")
    assert [entry.action for entry in registry.history()] == ["promoted"]
    assert versions.card(registry, 1)["holdout_accuracy"] == 0.9656
    assert versions.card(registry, 1)["promoted"] == OLD["time"]
    mlflow.create_model_version(registry.name, model_files)
    better = Decision((Check("floor", True, "good enough"),), {"accuracy": 0.98})
    registry.evaluate_challenger(2, lambda _champion: better, holdout_sha256="h")
    assert (registry.champion, registry.version("previous_champion")) == (2, 1)


@pytest.mark.parametrize(
    "text",
    [
        "moved by me",
        "{}",
        "[]",
        "[" * 50_000,
        json.dumps(OLD | {"time": "tomorrow"}),
        json.dumps(OLD | {"numbers": 3}),
    ],
    ids=["words", "nothing", "a list", "deep", "a time that is none", "numbers that are none"],
)
def test_a_tag_that_only_looks_like_an_entry_is_left_out(mlflow: MlflowClient, model_files: str, text: str) -> None:
    registry = Registry(f"foreign-{uuid4().hex[:8]}")
    mlflow.create_registered_model(registry.name)
    mlflow.create_model_version(registry.name, model_files, tags={f"{TAG_PREFIX}mine": text})
    decision = Decision((Check("floor", True, "good enough"),), {})
    registry.evaluate_challenger(1, lambda _champion: decision, holdout_sha256="h")
    assert [(entry.action, entry.champion) for entry in registry.history()] == [("promoted", 1)]


def test_an_entry_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    newer = OLD | {"action": "archived", "weather": "fine", "time": "2030-01-01T00:00:00.000000Z"}
    entry = LedgerEntry.from_json(json.dumps(newer))
    assert (entry.action, entry.version) == ("archived", 1)


def test_a_rejected_challenger_does_not_change_when_the_champion_was_promoted(
    mlflow: MlflowClient, model_files: str
) -> None:
    registry = Registry("steady-mlp")
    mlflow.create_registered_model(registry.name)
    for passed in (True, False):
        version = int(mlflow.create_model_version(registry.name, model_files).version)
        decision = Decision((Check("floor", passed, "measured"),), {})
        registry.evaluate_challenger(version, lambda _champion, decision=decision: decision, holdout_sha256="h")  # type: ignore[misc]
    assert versions.card(registry, 1)["promoted"] == registry.history()[0].time


def test_the_time_of_an_entry_is_after_that_of_the_latest_even_if_a_clock_was_ahead() -> None:
    ahead = LedgerEntry.from_json(json.dumps(OLD | {"time": "2099-01-01T00:00:00.000000Z"}))
    assert next_time([ahead]) == "2099-01-01T00:00:00.000001Z"
