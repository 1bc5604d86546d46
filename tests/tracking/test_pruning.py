"""Old versions make room: what is needed stays, the ledger too, and what is gone is refused."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import champion
from mnist_pipeline.tracking import pruning
from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.registry import Registry, resolve
from mnist_pipeline.tracking.versions import versions as summaries

NOW = timedelta(0)


@dataclass(frozen=True)
class Versions:
    """A registered model of six versions, each promoted in its turn but the last; each with a run and a file."""

    registry: Registry
    runs: dict[int, str]
    mlflow: MlflowClient

    def file(self, version: int) -> Path:
        return Path(self.mlflow.get_run(self.runs[version]).info.artifact_uri.removeprefix("file://")) / "figure.txt"


@pytest.fixture
def versions(empty_store: MlflowClient, model_files: str) -> Versions:
    registry, runs = Registry("pruned-mlp"), {}
    empty_store.create_registered_model(registry.name)
    for number in range(1, 7):
        run = empty_store.create_run("1").info.run_id
        empty_store.log_text(run, "figure", "figure.txt")
        empty_store.create_model_version(registry.name, model_files, run)
        decision = Decision((Check("floor", number < 6, "as it is"),), {})
        registry.evaluate_challenger(number, lambda _, found=decision: found, holdout_sha256="e")  # type: ignore[misc]
        runs[number] = run
    empty_store.set_registered_model_alias(registry.name, "challenger", "6")
    return Versions(registry, runs, empty_store)


def test_the_latest_the_young_and_those_with_an_alias_are_kept(versions: Versions) -> None:
    assert pruning.old_versions(versions.registry, keep=0, older_than=NOW) == [1, 2, 3]
    assert pruning.old_versions(versions.registry, keep=4, older_than=NOW) == [1, 2]
    assert pruning.old_versions(versions.registry, keep=0, older_than=timedelta(days=1)) == []
    assert pruning.old_versions(versions.registry, keep=9, older_than=NOW) == []


def test_a_version_whose_promotion_was_interrupted_is_kept_until_that_is_finished(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = versions.registry
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", interrupted)  # after the first write
        with pytest.raises(KeyboardInterrupt):
            registry.promote_by_hand(2, reason="it is better")
    assert pruning.old_versions(registry, keep=0, older_than=NOW) == [1, 3]
    with pytest.raises(ValueError, match="version 2 of pruned-mlp is needed meanwhile"):
        pruning.prune(registry, 2)
    assert versions.file(2).exists()


def test_what_a_version_that_stays_is_made_of_is_kept_whatever_its_name(versions: Versions) -> None:
    champion, other = versions.runs[5], versions.runs[1]
    versions.mlflow.create_model_version("pruned-mlp", "/nowhere", champion)  # a second version of the champion's run
    versions.mlflow.create_registered_model("theirs")
    versions.mlflow.create_model_version("theirs", "/nowhere", other)
    assert pruning.old_versions(versions.registry, keep=0, older_than=NOW) == [2, 3]
    for version in (1, 7):
        with pytest.raises(ValueError, match=f"version {version} of pruned-mlp is needed meanwhile"):
            pruning.prune(versions.registry, version)
    assert versions.file(1).exists()
    assert versions.file(5).exists()


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_nothing_is_deleted_without_yes(versions: Versions, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = ["--dataset", "pruned"]
    champion.app(["prune", "--keep", "0", "--older-than", "0m", *dataset])
    assert capsys.readouterr().out == "Would be pruned: 1, 2, 3; --yes prunes them\n"
    assert versions.file(1).exists()
    champion.app(["prune", "--keep", "0", "--older-than", "0m", "--yes", *dataset])
    assert capsys.readouterr().out == "Pruned: 1, 2, 3\n"
    assert [number for number in versions.runs if versions.file(number).exists()] == [4, 5, 6]


def test_the_ledger_stays_and_what_was_pruned_is_refused(versions: Versions) -> None:
    before = versions.registry.history()
    pruning.prune(versions.registry, 3)
    assert versions.registry.history() == before
    assert [each.number for each in summaries(versions.registry) if each.decision.endswith("pruned")] == [3]
    assert versions.registry.roll_back(reason="one back").champion == 4
    with pytest.raises(ValueError, match="version 3 of pruned-mlp was pruned on 20"):
        versions.registry.roll_back(reason="two back")
    assert versions.registry.champion == 4
    for refused in (
        lambda: versions.registry.promote_by_hand(3, reason="by hand"),
        lambda: resolve("models:/pruned-mlp/3"),
    ):
        with pytest.raises(ValueError, match="its model is gone"):
            refused()


def test_a_pruning_that_was_interrupted_is_finished_by_the_next(versions: Versions) -> None:
    versions.mlflow.set_model_version_tag("pruned-mlp", "1", "pruned", "2026-01-01")
    assert pruning.old_versions(versions.registry, keep=0, older_than=NOW) == [1, 2, 3]
    pruning.prune(versions.registry, 1)
    assert pruning.old_versions(versions.registry, keep=0, older_than=NOW) == [2, 3]


def test_a_version_that_was_promoted_since_it_was_listed_is_not_pruned(versions: Versions) -> None:
    assert 2 in pruning.old_versions(versions.registry, keep=0, older_than=NOW)
    versions.registry.promote_by_hand(2, reason="a test")
    with pytest.raises(ValueError, match="version 2 of pruned-mlp is needed meanwhile"):
        pruning.prune(versions.registry, 2)
    assert versions.registry.champion == 2


def test_only_what_is_the_versions_own_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "another's").write_text("whole")
    pruning.delete_artifacts(tmp_path.as_uri(), "0" * 32)
    assert (tmp_path / "another's").exists()
