"""Old versions, whose models and runs are deleted to make room. The versions stay, and with them the ledger."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mnist_pipeline.tracking import ledger
from mnist_pipeline.tracking.ledger import PRUNED
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.store import (
    client,
    created,
    ignore_mlflow_errors,
    logged_model_id,
    model_versions,
    store_lock,
)

GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # as MLflow says of what was deleted


def old_versions(registry: Registry, *, keep: int, older_than: timedelta) -> list[int]:
    """Return the versions that can go: neither among the latest `keep` nor younger than `older_than`, and not needed.

    Needed is what has an alias or is about to have one, and what shares its model or its run with a version that stays,
    of whatever name. Those whose pruning was interrupted can go, too.
    """
    versions, before = model_versions(), (datetime.now(UTC) - older_than).timestamp() * 1000
    own = [each for each in versions if each.name == registry.name]
    needed = _needed(registry, own)
    old = [
        each
        for each in own[: max(0, len(own) - keep)]
        if int(each.version) not in needed
        and created(each) < before
        and not (PRUNED in each.tags and _run_is_gone(each.run_id))
    ]
    going = {each.version for each in old}
    used = _in_use(each for each in versions if each.name != registry.name or each.version not in going)
    return [int(each.version) for each in old if not _made_of(each) & used]


def prune(registry: Registry, version: int) -> None:
    """Delete the model of a version, and its run with all that it logged; each step may be repeated.

    The tag comes first, so that no half of a model is ever promoted, and the run last. Its rows stay in the database,
    marked as deleted, until `mlflow gc`.
    """
    found = client().get_model_version(registry.name, str(version))
    with store_lock():  # it is promoted, or pruned, but not both
        versions = model_versions()
        needed = _needed(registry, [each for each in versions if each.name == registry.name])
        used = _in_use(each for each in versions if each.name != registry.name or int(each.version) in needed)
        if version in needed or _made_of(found) & used:
            raise ValueError(f"version {version} of {registry.name} is needed meanwhile, and is not pruned")
        client().set_model_version_tag(registry.name, found.version, PRUNED, f"{datetime.now(UTC):%Y-%m-%d}")
    with ignore_mlflow_errors(*GONE):
        model = client().get_logged_model(logged_model_id(found) or "none")
        delete_artifacts(model.artifact_location, model.model_id)
        client().delete_logged_model(model.model_id)
    with ignore_mlflow_errors(*GONE):
        run = client().get_run(found.run_id or "none")
        delete_artifacts(run.info.artifact_uri, run.info.run_id)
        client().delete_run(run.info.run_id)


def _needed(registry: Registry, versions: Iterable[ModelVersion]) -> set[int | None]:
    """Return those of its `versions` that have an alias, or will once an interrupted promotion is finished."""
    entry = ledger.unfinished(versions)
    coming = {entry.version, entry.champion, entry.champion_before} if entry else set()
    return {*registry.aliases.values(), *coming}


def _made_of(version: ModelVersion) -> set[str]:
    """Return the ids of the logged model and of the run that a version was registered from."""
    return {each for each in (logged_model_id(version), version.run_id) if each}


def _in_use(versions: Iterable[ModelVersion]) -> set[str]:
    """Return what `versions` are made of, but for those that were pruned."""
    return {each for version in versions if PRUNED not in version.tags for each in _made_of(version)}


def _run_is_gone(run_id: str | None) -> bool:
    with ignore_mlflow_errors(*GONE):
        return bool(client().get_run(run_id or "none").info.lifecycle_stage == "deleted")
    return True


def delete_artifacts(location: str, owner: str) -> None:
    """Delete all artifacts at `location`, if it is that of the run or model whose id is `owner`."""
    repository = get_artifact_repository(location)
    if owner in location and repository.list_artifacts():
        repository.delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow's
