"""What is said of a network beside its numbers."""

import pytest
import torch

from mnist_pipeline.config import REFERENCE
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import runs
from mnist_pipeline.training.model import MLP
from tasks.evaluate import evaluate


def test_a_network_that_does_not_beat_guessing_is_a_warning(
    prefect_api: str, splits: Splits, caplog: pytest.LogCaptureFixture
) -> None:
    mlp = MLP.from_config(REFERENCE, inputs=784, outputs=10)
    for parameter in mlp.parameters():
        torch.nn.init.zeros_(parameter)
    with runs.start_run(params={}, tags={}) as run:
        evaluate(mlp, splits, run, epoch=1)
    assert "always answering with the most frequent class is right on 11.35 % of the holdout" in caplog.text
