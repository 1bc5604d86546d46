"""The server in this process, around the session's model."""

from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from flows.train_flow import Trained
from mnist_pipeline.data.splits import Splits
from serving.app import create_app

BASE = "http://127.0.0.1:8000"


@pytest.fixture(scope="package")  # it polls the store, which other tests change
def web(trained: Trained) -> Iterator[TestClient]:
    with TestClient(create_app(trained.model.uri), base_url=BASE) as client:
        yield client


@pytest.fixture(scope="session")
def digits(splits: Splits) -> np.ndarray:
    return splits.holdout.pixels[:100].numpy()
