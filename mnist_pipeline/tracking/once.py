"""Runs, models and versions made once: MLflow's client repeats a request whose answer a tracking server did not send.

If the server had carried it out, there are two. The one that the client does not know is deleted.
"""

import time
from collections.abc import Mapping
from typing import Any

from mnist_pipeline.tracking import store


def create_run(experiment_id: str, tags: Mapping[str, str], name: str | None) -> Any:
    """Create a run of MLflow's."""
    now = round(time.time() * 1000)
    run = store.client().create_run(experiment_id, now, dict(tags), name)
    if not store.is_local():
        for each in store.client().search_runs([experiment_id], f"attributes.start_time = {now}"):
            if each.info.run_id != run.info.run_id and tags.items() <= each.data.tags.items():
                store.client().delete_run(each.info.run_id)
    return run


def delete_unfinished_models(experiment_id: str, run_id: str) -> None:
    """Delete the models of a run that were begun and not logged, after its own was."""
    if store.is_local():
        return
    for each in store.client().search_logged_models([experiment_id], f"source_run_id = '{run_id}'"):
        if each.status == "PENDING":
            store.client().delete_logged_model(each.model_id)


def create_version(name: str, uri: str, run_id: str, tags: dict[str, str], description: str) -> int:
    """Register a model as a version of `name`; return its number."""
    model_id = uri.removeprefix("models:/")
    made = store.client().create_model_version(name, uri, run_id, tags, description=description, model_id=model_id)
    if store.is_local():
        return int(made.version)
    first, *others = sorted(int(each.version) for each in versions_of(name, run_id))
    for number in others:
        store.client().delete_model_version(name, str(number))
    return first


def versions_of(name: str, run_id: str) -> list[Any]:
    """Return the versions of `name` that a run made."""
    return list(store.client().search_model_versions(f"name = '{name}' and run_id = '{run_id}'"))
