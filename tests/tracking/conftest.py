"""A registered model of its own for each test, whose versions hold no network."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.registry import Registry


@pytest.fixture
def mlflow() -> MlflowClient:
    store.prepare()
    return store.client()


@pytest.fixture
def registry() -> Registry:
    return Registry(f"digits-{uuid4().hex[:8]}")


@pytest.fixture
def new_version(mlflow: MlflowClient, registry: Registry, model_files: str) -> Callable[[], int]:
    mlflow.create_registered_model(registry.name)
    experiment = store.experiment_id("mnist")

    def create() -> int:
        run = mlflow.create_run(experiment).info.run_id
        return int(mlflow.create_model_version(registry.name, model_files, run).version)

    return create
