"""Who is champion, and what the ledger says of it."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mnist_pipeline.config import FieldError
from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.registry import ModelVersion, Registry
from tests.tracking.decisions import NO, YES, evaluate_challenger


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
    registry: Registry, new_version: Callable[[], int], mlflow: MlflowClient
) -> None:
    evaluate_challenger(registry, new_version(), NO)
    version = mlflow.get_model_version(registry.name, "1")
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


def test_a_version_that_someone_rolled_back_before_the_gate_decides_stays_so(
    registry: Registry, new_version: Callable[[], int]
) -> None:
    evaluate_challenger(registry, new_version(), YES)
    version = new_version()
    registry.promote_by_hand(version, reason="too early")
    registry.roll_back(reason="oops")
    evaluate_challenger(registry, version, YES)
    assert registry.champion == 1
    assert [entry.action for entry in registry.history()] == ["promoted", "promoted by hand", "rolled back"]


class Dying:
    """A client of the store that dies after some writes."""

    def __init__(self, client: MlflowClient, writes: int) -> None:
        self.client, self.left = client, writes

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("get_", "search_", "list_")):
            if self.left == 0:
                raise ConnectionError("the store is gone")
            self.left -= 1
        return getattr(self.client, name)


@pytest.mark.parametrize("writes", [1, 2, 6])  # the entry; one alias; all but the last of it
@pytest.mark.parametrize("action", ["promoted", "promoted by hand", "rolled back"])
def test_what_was_interrupted_at_any_write_is_finished_by_the_same_command(
    registry: Registry,
    new_version: Callable[[], int],
    mlflow: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    writes: int,
) -> None:
    for version in (new_version(), new_version()):
        evaluate_challenger(registry, version, YES)
    new_version()
    commands: dict[str, tuple[Callable[[], object], tuple[int, int | None]]] = {
        "promoted": (partial(evaluate_challenger, registry, 3, YES), (3, 2)),
        "promoted by hand": (partial(registry.promote_by_hand, 3, reason="I know better"), (3, 2)),
        "rolled back": (partial(registry.roll_back, reason="it fails on sevens"), (1, None)),
    }
    command, (champion, previous) = commands[action]
    dying = Dying(mlflow, writes)
    with monkeypatch.context() as patch:
        patch.setattr("mnist_pipeline.tracking.store.client", lambda: dying)
        with pytest.raises(ConnectionError):
            command()
    command()
    assert (registry.champion, registry.version("previous_champion")) == (champion, previous)
    assert [entry.action for entry in registry.history()] == ["promoted", "promoted", action]


def test_rollback_goes_back_one_champion_at_a_time(registry: Registry, new_version: Callable[[], int]) -> None:
    for version in (new_version(), new_version(), new_version()):
        evaluate_challenger(registry, version, YES)
    entry = registry.roll_back(reason="it fails on sevens")
    assert (entry.version, entry.action, entry.champion) == (3, "rolled back", 2)
    assert (registry.champion, registry.version("previous_champion")) == (2, 1)
    registry.roll_back(reason="this one too")
    assert (registry.champion, registry.version("previous_champion")) == (1, None)
    with pytest.raises(ValueError, match=r"digits-.* has no previous champion to go back to"):
        registry.roll_back(reason="and now?")
    assert [entry.action for entry in registry.history()] == ["promoted"] * 3 + ["rolled back"] * 2


@pytest.mark.parametrize("delete", ["delete_run", "delete_model_version"])
def test_rollback_bears_what_was_deleted_and_goes_back_by_one(
    registry: Registry, new_version: Callable[[], int], mlflow: MlflowClient, delete: str
) -> None:
    for version in (new_version(), new_version(), new_version()):
        evaluate_challenger(registry, version, YES)
    if delete == "delete_run":
        mlflow.delete_run(str(mlflow.get_model_version(registry.name, "3").run_id))
    else:
        mlflow.delete_model_version(registry.name, "1")
    registry.roll_back(reason="it fails on sevens")
    assert (registry.champion, registry.history()[-1].action) == (2, "rolled back")
    assert registry.version("previous_champion") == (1 if delete == "delete_run" else None)


def test_rollback_takes_the_champion_before_one_whose_version_was_deleted(
    registry: Registry, new_version: Callable[[], int], mlflow: MlflowClient
) -> None:
    for version in (new_version(), new_version()):
        evaluate_challenger(registry, version, YES)
    mlflow.delete_model_version(registry.name, "2")
    entry = registry.roll_back(reason="its version was deleted")
    assert (entry.champion_before, entry.champion, registry.champion) == (None, 1, 1)


@pytest.mark.parametrize("reason", ["", " \n"])
def test_a_decision_by_hand_has_a_reason(registry: Registry, new_version: Callable[[], int], reason: str) -> None:
    new_version()
    with pytest.raises(FieldError, match=r"^reason must be what others are to read in the ledger, not empty$"):
        registry.promote_by_hand(1, reason=reason)


def test_a_champion_whose_alias_was_deleted_is_still_the_one_to_beat(
    registry: Registry, new_version: Callable[[], int], mlflow: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (new_version(), new_version()):
        evaluate_challenger(registry, version, YES)
    mlflow.delete_registered_model_alias(registry.name, "champion")
    first = registry.promote_first(ModelVersion(registry.name, new_version(), "challenger"))
    assert (first.alias, registry.champion) == ("challenger", None)
    assert f"the last one that is there is version 2: {registry.promote_command(2)}" in caplog.text
    seen = []
    registry.evaluate_challenger(3, lambda champion: seen.append(champion) or NO, holdout_sha256="e")  # type: ignore[func-returns-value]
    assert seen == [2]
    registry.promote_by_hand(2, reason="its alias was deleted")
    assert (registry.champion, registry.version("previous_champion")) == (2, 1)
    mlflow.delete_registered_model_alias(registry.name, "previous_champion")
    registry.roll_back(reason="it fails on sevens")
    assert registry.champion == 1


def test_a_promotion_by_hand_is_recorded_as_one(registry: Registry, new_version: Callable[[], int]) -> None:
    evaluate_challenger(registry, new_version(), YES)
    evaluate_challenger(registry, new_version(), NO)
    entry = registry.promote_by_hand(2, reason="I know better")
    assert (entry.action, entry.reasons, registry.champion) == ("promoted by hand", ("I know better",), 2)
    assert registry.history()[-1] == entry
    with pytest.raises(ValueError, match=r"version 2 of digits-.* is the champion already"):
        registry.promote_by_hand(2, reason="again")
    with pytest.raises(ValueError, match=r"digits-.* has no version 7: its versions are 1, 2"):
        registry.promote_by_hand(7, reason="none")


def test_a_version_whose_files_are_gone_or_damaged_is_never_made_the_champion(
    registry: Registry, mlflow: MlflowClient, tmp_path: Path
) -> None:
    mlflow.create_registered_model(registry.name)
    for _ in range(2):
        model = mlflow.create_logged_model(store.experiment_id("mnist"))
        mlflow.create_model_version(registry.name, f"models:/{model.model_id}", model_id=model.model_id)
    by_hand = mlflow.create_model_version(registry.name, str(tmp_path / "nowhere"))
    for version in (2, int(by_hand.version)):
        with pytest.raises(ValueError, match=rf"the files of version {version} of .* are gone"):
            registry.promote_by_hand(version, reason="a test")
    weights = tmp_path / Path(store.WEIGHTS).name
    weights.write_bytes(pickle.dumps("not torch's"))
    mlflow.log_model_artifact(model.model_id, str(weights), "extra_files")
    mlflow.finalize_logged_model(model.model_id, "READY")
    with pytest.raises(ValueError, match=r"version 2 of .* cannot be used: its weights, .*, are damaged"):
        registry.promote_by_hand(2, reason="a test")
    assert registry.champion is None
    assert not registry.history()


PROMOTE = """
import sys
from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.registry import Registry

registry, versions = Registry(sys.argv[1]), map(int, sys.argv[2:])
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
    versions = [str(new_version()) for _ in range(12)]
    rivals = [
        subprocess.Popen([sys.executable, "-c", PROMOTE, registry.name, *versions[start::2]], stderr=subprocess.PIPE)
        for start in (0, 1)
    ]
    for rival in rivals:
        _, errors = rival.communicate()
        assert rival.returncode == 0, errors.decode()

    history = registry.history()
    assert len(history) == 12
    champion = None
    for entry in history:
        assert entry.champion_before == champion  # what it was compared with was the champion
        champion = entry.champion
    assert champion == registry.champion == 12
