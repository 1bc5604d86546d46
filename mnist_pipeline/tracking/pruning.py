"""Old versions, whose models and runs are deleted to make room. The versions stay, and with them the ledger."""

from datetime import UTC, datetime, timedelta

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mnist_pipeline.tracking import ledger
from mnist_pipeline.tracking.ledger import PRUNED
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.store import client, ignore_mlflow_errors, logged_model_id, store_lock

GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # as MLflow says of what was deleted


def old_versions(registry: Registry, *, keep: int, older_than: timedelta) -> list[int]:
    """Return the versions that can go: neither among the latest `keep` nor younger than `older_than`, and not needed.

    Needed is what has an alias or is about to have one. Those whose pruning was interrupted can go, too.
    """
    needed = _needed(registry)
    before = (datetime.now(UTC) - older_than).timestamp() * 1000
    found = sorted(client().search_model_versions(f"name = '{registry.name}'"), key=lambda each: int(each.version))
    return [
        int(each.version)
        for each in found[: max(0, len(found) - keep)]
        if int(each.version) not in needed
        and each.creation_timestamp < before
        and not (PRUNED in each.tags and _run_is_gone(each.run_id))
    ]


def prune(registry: Registry, version: int) -> None:
    """Delete the model of a version, and its run with all that it logged; each step may be repeated.

    The tag comes first, so that no half of a model is ever promoted, and the run last. Its rows stay in the database,
    marked as deleted, until `mlflow gc`.
    """
    found = client().get_model_version(registry.name, str(version))
    with store_lock():  # it is promoted, or pruned, but not both
        if version in _needed(registry):
            raise ValueError(f"version {version} of {registry.name} was promoted meanwhile, and is not pruned")
        client().set_model_version_tag(registry.name, found.version, PRUNED, f"{datetime.now(UTC):%Y-%m-%d}")
    with ignore_mlflow_errors(*GONE):
        model = client().get_logged_model(logged_model_id(found) or "none")
        delete_artifacts(model.artifact_location, model.model_id)
        client().delete_logged_model(model.model_id)
    with ignore_mlflow_errors(*GONE):
        run = client().get_run(found.run_id or "none")
        delete_artifacts(run.info.artifact_uri, run.info.run_id)
        client().delete_run(run.info.run_id)


def _needed(registry: Registry) -> set[int | None]:
    """Return the versions that have an alias, or will once the next command finishes an interrupted promotion."""
    entry = ledger.unfinished(client().search_model_versions(f"name = '{registry.name}'"))
    coming = {entry.version, entry.champion, entry.champion_before} if entry else set()
    return {*map(int, client().get_registered_model(registry.name).aliases.values()), *coming}


def _run_is_gone(run_id: str | None) -> bool:
    with ignore_mlflow_errors(*GONE):
        return bool(client().get_run(run_id or "none").info.lifecycle_stage == "deleted")
    return True


def delete_artifacts(location: str, owner: str) -> None:
    """Delete all artifacts at `location`, if it is that of the run or model whose id is `owner`."""
    repository = get_artifact_repository(location)
    if owner in location and repository.list_artifacts():
        repository.delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow's
