"""What was decided on versions, and what need not be trained again."""

from collections.abc import Callable
from dataclasses import replace

from mlflow import MlflowClient

from mnist_pipeline.config import Gate
from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.versions import runs_not_kept, settled
from tests.tracking.decisions import NO, YES, evaluate_challenger


def test_what_is_champion_or_was_turned_down_need_not_be_trained_again(
    registry: Registry, new_version: Callable[[], int], mlflow: MlflowClient
) -> None:
    for decision in (YES, YES, NO):
        version = new_version()
        mlflow.set_model_version_tag(registry.name, str(version), "fingerprint", f"training {version}")
        evaluate_challenger(registry, version, decision)

    def found(number: int) -> str | None:
        return settled(registry, f"training {number}", Gate())

    assert [*map(found, (1, 2, 3))] == [None, "version 2, the champion", "version 3, which was rejected"]
    registry.roll_back(reason="it fails on sevens")  # to version 1, with which version 3 was not compared
    assert [*map(found, (1, 2, 3))] == ["version 1, the champion", "version 2, which was rolled back", None]
    assert found(4) is None
    mlflow.set_registered_model_alias(registry.name, "champion", "2")
    assert found(1) == "version 1, which was replaced by hand"  # in MLflow's UI
    mlflow.set_registered_model_alias(registry.name, "champion", "1")
    registry.promote_by_hand(3, reason="it looks good")
    registry.promote_by_hand(2, reason="it does not")
    assert [*map(found, (1, 2, 3))] == [
        "version 1, which was replaced by hand",
        "version 2, the champion",
        "version 3, which was replaced by hand",
    ]


def test_what_another_gate_rejected_is_trained_again(
    registry: Registry, new_version: Callable[[], int], mlflow: MlflowClient
) -> None:
    evaluate_challenger(registry, new_version(), YES)
    strict, lenient = Gate(floor=0.9), Gate(floor=0.5)
    mlflow.set_model_version_tag(registry.name, str(version := new_version()), "fingerprint", "training")
    evaluate_challenger(registry, version, replace(NO, limits=strict.limits))
    assert settled(registry, "training", strict) == "version 2, which was rejected"
    assert settled(registry, "training", lenient) is None


def test_what_an_earlier_champion_learnt_from_is_not_known_to_have_failed(
    registry: Registry, new_version: Callable[[], int]
) -> None:
    for decision in (YES, YES, NO, YES):
        evaluate_challenger(registry, new_version(), decision)
    registry.roll_back(reason="it fails on sevens")
    runs = {int(each.version): each.run_id for each in store.model_versions(registry.name)}
    assert runs_not_kept(registry, latest=20) == {runs[3], runs[4]}
    assert runs_not_kept(registry, latest=1) == {runs[4]}
