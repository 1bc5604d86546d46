"""Who is champion, and what the ledger says of it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.registry import Registry

YES = Decision((Check("floor", True, "good enough"),), {"accuracy": 0.98})
NO = Decision((Check("floor", False, "too bad"),), {"accuracy": 0.1})


@pytest.fixture
def registry(empty_store: MlflowClient) -> Registry:
    return Registry("digits")


@pytest.fixture
def new_version(empty_store: MlflowClient, registry: Registry, tmp_path: Path) -> Callable[[], int]:
    empty_store.create_registered_model(registry.name)
    return lambda: int(empty_store.create_model_version(registry.name, str(tmp_path)).version)


def evaluate_challenger(registry: Registry, version: int, decision: Decision) -> None:
    registry.evaluate_challenger(version, lambda _champion: decision, holdout_sha256="e")


def test_promotion_moves_both_aliases(registry: Registry, new_version: Callable[[], int]) -> None:
    for version in (new_version(), new_version(), new_version()):
        evaluate_challenger(registry, version, YES)
    assert (registry.champion, registry.version("previous_champion")) == (3, 2)


def test_a_rejected_version_changes_nothing_but_the_ledger(registry: Registry, new_version: Callable[[], int]) -> None:
    evaluate_challenger(registry, new_version(), YES)
    evaluate_challenger(registry, new_version(), NO)
    assert registry.champion == 1
    first, second = registry.history()
    assert (first.action, first.champion_before, first.champion) == ("promoted", None, 1)
    assert (second.action, second.champion_before, second.champion) == ("rejected", 1, 1)
    assert second.reasons == ("too bad",)
    assert second.checks == NO.checks
    assert second.numbers == {"accuracy": 0.1}


def test_a_decision_is_in_the_versions_tags_and_description(
    registry: Registry, new_version: Callable[[], int], empty_store: MlflowClient
) -> None:
    evaluate_challenger(registry, new_version(), NO)
    version = empty_store.get_model_version(registry.name, "1")
    assert version.tags["decision"] == "rejected"
    assert version.tags["decision_reasons"] == "too bad"
    assert "**Rejected** at 20" in str(version.description)
    assert "too bad" in str(version.description)


def test_a_version_is_decided_on_once(registry: Registry, new_version: Callable[[], int]) -> None:
    version = new_version()
    evaluate_challenger(registry, version, NO)
    evaluate_challenger(registry, version, YES)
    assert registry.champion is None
    assert len(registry.history()) == 1


def test_a_promotion_that_was_interrupted_is_finished_the_next_time(
    registry: Registry, new_version: Callable[[], int], empty_store: MlflowClient
) -> None:
    evaluate_challenger(registry, new_version(), YES)
    version = new_version()
    empty_store.set_registered_model_alias(registry.name, "previous_champion", "1")
    empty_store.set_registered_model_alias(registry.name, "champion", "2")  # and here the power went
    seen = []
    registry.evaluate_challenger(version, lambda champion: seen.append(champion) or YES, holdout_sha256="e")  # type: ignore[func-returns-value]
    assert seen == [1]
    assert (registry.champion, registry.version("previous_champion")) == (2, 1)
    assert [entry.version for entry in registry.history()] == [1, 2]


def test_rollback_goes_back_one_champion_at_a_time(registry: Registry, new_version: Callable[[], int]) -> None:
    for version in (new_version(), new_version(), new_version()):
        evaluate_challenger(registry, version, YES)
    entry = registry.roll_back(reason="it fails on sevens")
    assert (entry.version, entry.action, entry.champion) == (3, "rolled back", 2)
    assert (registry.champion, registry.version("previous_champion")) == (2, 1)
    registry.roll_back(reason="this one too")
    assert (registry.champion, registry.version("previous_champion")) == (1, None)
    with pytest.raises(ValueError, match="digits has no previous champion to go back to"):
        registry.roll_back(reason="and now?")
    assert [entry.action for entry in registry.history()] == ["promoted"] * 3 + ["rolled back"] * 2


def test_a_promotion_by_hand_is_recorded_as_one(registry: Registry, new_version: Callable[[], int]) -> None:
    evaluate_challenger(registry, new_version(), YES)
    evaluate_challenger(registry, new_version(), NO)
    entry = registry.promote_by_hand(2, reason="I know better")
    assert (entry.action, entry.reasons, registry.champion) == ("promoted by hand", ("I know better",), 2)
    assert registry.history()[-1] == entry
    with pytest.raises(ValueError, match="version 2 of digits is the champion already"):
        registry.promote_by_hand(2, reason="again")
    with pytest.raises(ValueError, match="digits has no version 7: its versions are 1, 2"):
        registry.promote_by_hand(7, reason="none")


READ_LEDGER = """
import sys
from mnist_pipeline.tracking.registry import Registry

print(len(Registry("digits").history()), sorted({"torch", "scipy.stats", "prefect"} & sys.modules.keys()))
"""


def test_the_ledger_is_read_without_torch_scipy_or_prefect(registry: Registry, new_version: Callable[[], int]) -> None:
    evaluate_challenger(registry, new_version(), YES)
    result = subprocess.run([sys.executable, "-c", READ_LEDGER], capture_output=True, check=True, text=True)
    assert result.stdout == "1 []\n"


PROMOTE = """
import sys
from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.registry import Registry

registry, versions = Registry("digits"), map(int, sys.argv[1:])
for version in versions:  # the higher its number, the better it is
    def decide(champion):
        better = champion is None or version > champion
        return Decision((Check("better", better, f"against {champion}"),), {})
    registry.evaluate_challenger(version, decide, holdout_sha256="e")
"""


@pytest.mark.slow
def test_two_processes_that_promote_at_once_never_decide_on_a_stale_champion(
    registry: Registry, new_version: Callable[[], int]
) -> None:
    versions = [str(new_version()) for _ in range(100)]
    rivals = [
        subprocess.Popen([sys.executable, "-c", PROMOTE, *versions[start::2]], stderr=subprocess.PIPE)
        for start in (0, 1)
    ]
    for rival in rivals:
        _, errors = rival.communicate()
        assert rival.returncode == 0, errors.decode()

    history = registry.history()
    assert len(history) == 100
    champion = None
    for entry in history:
        assert entry.champion_before == champion  # what it was compared with was the champion
        champion = entry.champion
    assert champion == registry.champion == 100
