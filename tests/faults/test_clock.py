"""A machine whose clock was ahead: the ledger keeps its order."""

import json

from mlflow import MlflowClient

from flows.train_flow import Trained
from mnist_pipeline.tracking.ledger import TAG_PREFIX
from mnist_pipeline.tracking.registry import Registry


def test_a_clock_that_is_set_back_moves_no_champion_and_loses_no_entry(trained: Trained) -> None:
    registry, client = Registry("clock"), MlflowClient()
    source = client.get_model_version("mnist-mlp", str(trained.model.number))
    client.create_registered_model(registry.name)
    for _ in range(2):
        client.create_model_version(registry.name, str(source.source), model_id=source.model_id)
    registry.promote_by_hand(1, reason="by a machine whose clock is ahead")
    tags = client.get_model_version(registry.name, "1").tags
    (name,) = (name for name in tags if name.startswith(TAG_PREFIX))
    future = "2099-01-01T00:00:00.000000Z"
    client.set_model_version_tag(
        registry.name, "1", TAG_PREFIX + future, json.dumps(json.loads(tags[name]) | {"time": future})
    )
    client.delete_model_version_tag(registry.name, "1", name)

    registry.promote_by_hand(2, reason="the clock was set back since")
    assert registry.champion == 2
    registry.roll_back(reason="it was")
    assert registry.champion == 1
    assert [entry.version for entry in registry.history()] == [1, 2, 2]
    assert all(entry.time >= future for entry in registry.history())
