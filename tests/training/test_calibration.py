"""The temperature makes probabilities mean what they say, and changes no answer."""

from typing import Any

import pytest
import torch

from mnist_pipeline.training.calibration import calibrate, fit_temperature
from mnist_pipeline.training.evaluation import calibration_error, evaluate, predict
from mnist_pipeline.training.model import MLP


def drawn(count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits, and labels that are drawn with the probabilities that they stand for."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 10, generator=generator)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_logits_were_multiplied_by(factor: float) -> None:
    logits, labels = drawn()
    temperature = fit_temperature(logits * factor, labels)
    assert temperature == pytest.approx(factor, rel=0.02)
    assert calibration_error((logits * factor / temperature).softmax(dim=1), labels) < 0.01


def test_a_dozen_images_that_are_all_right_do_not_make_a_network_sure_of_itself() -> None:
    logits = torch.tensor([[3.0, 0.0]]).repeat(12, 1)  # a probability of 95 %
    assert 0.5 < fit_temperature(logits, torch.zeros(12, dtype=torch.long)) < 1


@pytest.mark.parametrize("options", [{}, {"tta": True, "batch_norm": True}, {"dropout": 0.5}])
@pytest.mark.parametrize("hidden", [(), (20,)])
def test_calibrating_a_network_divides_its_logits_and_keeps_its_answers(hidden: tuple[int, ...], options: Any) -> None:
    mlp, images = MLP(784, hidden, 10, **options).eval(), torch.rand(200, 28, 28)
    before = predict(mlp, images)
    labels = torch.multinomial((before.log() / 0.2).softmax(dim=1), 1).squeeze(1)  # it doubts too much
    temperature = calibrate(mlp, images, labels)
    after = predict(mlp, images)
    assert temperature < 0.7
    assert torch.allclose(after, (before.log() / temperature).softmax(dim=1), atol=1e-5)
    assert torch.equal(after.argmax(dim=1), before.argmax(dim=1))
    assert evaluate(after, labels).loss < evaluate(before, labels).loss
