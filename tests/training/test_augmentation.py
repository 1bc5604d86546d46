"""Augmented images are other images of the same digits."""

import pytest
import torch

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.training.augmentation import augment, rotate
from mnist_pipeline.training.evaluation import evaluate, predict
from mnist_pipeline.training.loop import fit
from mnist_pipeline.training.model import MLP


def test_a_strength_of_zero_changes_nothing() -> None:
    images = torch.rand(3, 28, 28)
    assert torch.allclose(augment(images, 0.0), images, atol=1e-5)


def test_each_image_is_distorted_differently_and_keeps_its_range_and_its_brightness() -> None:
    image = torch.zeros(28, 28)
    image[10:18, 12:16] = 1
    augmented = augment(image.expand(1001, 28, 28), 1.0)  # more than one chunk, and a short one
    assert augmented.shape == (1001, 28, 28)
    assert augmented.min() >= 0
    assert augmented.max() <= 1 + 1e-6
    assert len({each.numpy().tobytes() for each in augmented}) == 1001
    assert augmented.mean() == pytest.approx(image.mean().item(), rel=0.1)


def test_the_same_seed_distorts_in_the_same_way() -> None:
    def draw() -> torch.Tensor:
        torch.manual_seed(0)
        return augment(torch.ones(2, 28, 28), 1.0)

    assert torch.equal(draw(), draw())


def test_images_are_rotated_anticlockwise_about_their_centre() -> None:
    images = torch.rand(3, 28, 28)
    assert torch.allclose(rotate(images, torch.tensor(0.0)), images, atol=1e-5)
    assert torch.allclose(rotate(images, torch.tensor(90.0)), images.rot90(1, (1, 2)), atol=1e-4)


def test_an_image_that_is_not_square_keeps_its_proportions_when_rotated() -> None:
    wide = torch.zeros(1, 9, 21)
    wide[0, 4, 8:13] = 1
    assert rotate(wide, torch.tensor(90.0)).round().nonzero()[:, 1:].tolist() == [[row, 10] for row in range(2, 7)]


def test_a_network_learns_digits_from_augmented_images(splits: Splits) -> None:
    config = TrainConfig(epochs=1, augmentation=1.0, label_smoothing=0.05, batch_norm=True, lr=0.01, hidden=(64,))
    mlp = MLP.from_config(config, inputs=784, outputs=10)
    list(fit(mlp, splits.test.images, splits.test.labels, config))
    assert evaluate(predict(mlp, splits.holdout.images), splits.holdout.labels).accuracy > 0.9
