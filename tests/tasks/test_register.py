"""Which first version becomes the champion."""

from uuid import uuid4

import torch

from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.registry import ModelVersion, Registry
from mnist_pipeline.training.evaluation import Evaluation, evaluate
from tasks.register import promote_first

LABELS = torch.arange(100) % 2


def answering(predicted: torch.Tensor) -> Evaluation:
    return evaluate(torch.eye(2)[predicted], LABELS)


def test_the_first_version_that_beats_guessing_becomes_the_champion(model_files: str) -> None:
    store.prepare()
    registry = Registry(f"{uuid4().hex}-mlp")
    store.client().create_registered_model(registry.name)
    store.client().create_model_version(registry.name, model_files)
    model = ModelVersion(registry.name, 1, "challenger")

    assert promote_first(model, answering(torch.zeros_like(LABELS))).alias == "challenger"
    assert registry.champion is None

    assert promote_first(model, answering(LABELS)).alias == "champion"
    assert registry.champion == 1
    assert registry.history()[-1].reasons == (
        "the first version that beats guessing: there was no champion to compare it with",
    )
