"""Distorted images are other images of the same digits."""

import pytest
import torch

from mnist_pipeline.augmentation import distort, turn
from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.evaluation import evaluate, predict
from mnist_pipeline.model import MLP
from mnist_pipeline.training import fit


def test_no_strength_changes_nothing() -> None:
    images = torch.rand(3, 28, 28)
    assert torch.allclose(distort(images, 0.0), images, atol=1e-5)


def test_each_image_is_redrawn_in_its_own_way_and_stays_in_range() -> None:
    image = torch.zeros(28, 28)
    image[10:18, 12:16] = 1
    drawn = distort(image.expand(1001, 28, 28), 1.0)  # more than one chunk, and a short one
    assert drawn.shape == (1001, 28, 28)
    assert drawn.min() >= 0
    assert drawn.max() <= 1 + 1e-6
    assert len({each.numpy().tobytes() for each in drawn}) == 1001
    assert drawn.mean() == pytest.approx(image.mean().item(), rel=0.1)  # as much ink as before


def test_the_same_seed_draws_the_same() -> None:
    def draw() -> torch.Tensor:
        torch.manual_seed(0)
        return distort(torch.ones(2, 28, 28), 1.0)

    assert torch.equal(draw(), draw())


def test_images_are_turned_about_their_middle() -> None:
    images = torch.rand(3, 28, 28)
    assert torch.allclose(turn(images, torch.tensor(0.0)), images, atol=1e-5)
    assert torch.allclose(turn(images, torch.tensor(90.0)), images.rot90(1, (1, 2)), atol=1e-4)
    wide = torch.zeros(1, 9, 21)
    wide[0, 4, 8:13] = 1
    assert turn(wide, torch.tensor(90.0)).round().nonzero()[:, 1:].tolist() == [[row, 10] for row in range(2, 7)]


def test_training_on_distorted_images_still_learns_digits(splits: Splits) -> None:
    config = TrainConfig(epochs=1, distortion=1.0, label_smoothing=0.05, batch_norm=True, lr=0.01, hidden=(64,))
    mlp = MLP.from_config(config, inputs=784, outputs=10)
    list(fit(mlp, splits.test.images, splits.test.labels, config))
    assert evaluate(predict(mlp, splits.exam.images), splits.exam.labels).accuracy > 0.9
