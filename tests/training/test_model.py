"""The networks have the tutorial's layers, and the classifier its own preprocessing."""

from typing import Any

import pytest
import torch
from torch import nn

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.schema import normalize
from mnist_pipeline.training.augmentation import rotate
from mnist_pipeline.training.model import MLP, Classifier


def test_the_state_dict_loads_into_the_tutorials_class() -> None:
    class Tutorial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(784, 100)
            self.relu1 = nn.ReLU()
            self.fc2 = nn.Linear(100, 100)
            self.relu2 = nn.ReLU()
            self.fc3 = nn.Linear(100, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc3(self.relu2(self.fc2(self.relu1(self.fc1(x)))))
            return out

    mlp, tutorial, images = MLP(784, [100, 100], 10), Tutorial(), torch.rand(5, 784)
    tutorial.load_state_dict(mlp.state_dict())
    assert torch.equal(mlp(images), tutorial(images))


def test_no_hidden_layer_makes_a_single_layer_perceptron() -> None:
    assert [name for name, _ in MLP(784, [], 10).named_parameters()] == ["fc1.weight", "fc1.bias"]


def test_dropout_and_batch_norm_are_in_every_hidden_layer() -> None:
    mlp = MLP(784, [30, 20], 10, dropout=0.5, batch_norm=True)
    names = [name for name, _ in mlp.named_children()]
    assert names == ["fc1", "bn1", "relu1", "dropout1", "fc2", "bn2", "relu2", "dropout2", "fc3"]


def test_the_seed_determines_the_initial_weights() -> None:
    first, again, other = (
        MLP.from_config(TrainConfig(seed=seed), inputs=784, outputs=10).state_dict()["fc1.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_classifier_maps_raw_pixels_to_probabilities() -> None:
    mlp, pixels = MLP(784, [100], 10), torch.randint(256, (5, 28, 28), dtype=torch.uint8)
    probabilities = Classifier(mlp)(pixels)
    assert torch.equal(probabilities, mlp(normalize(pixels)).softmax(dim=1))
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "dropout": 0.5}, {"tta": True}])
@pytest.mark.parametrize("hidden", [(), (20, 30)])
def test_a_network_is_rebuilt_from_its_state_dict_for_inference(hidden: tuple[int, ...], options: Any) -> None:
    mlp, images = MLP(784, hidden, 10, **options), torch.rand(5, 28, 28)
    rebuilt = MLP.from_state_dict(mlp.state_dict())
    assert torch.equal(rebuilt(images), mlp.eval()(images))
    assert not any(parameter.requires_grad for parameter in rebuilt.parameters())


def test_test_time_augmentation_averages_log_probabilities_over_an_image_and_its_rotations() -> None:
    mlp, plain, images = MLP(784, [100], 10, tta=True), MLP(784, [100], 10), torch.rand(5, 28, 28)
    plain.load_state_dict({name: weights for name, weights in mlp.state_dict().items() if name != "rotations"})
    answers = [plain(rotate(images, torch.tensor(degrees))) for degrees in (0.0, 6.0, -6.0)]
    assert torch.allclose(mlp.eval()(images), torch.stack(answers).log_softmax(dim=2).mean(dim=0), atol=1e-5)
    assert torch.equal(mlp.train()(images), plain(images))  # it learns from the images as they are


def test_a_state_dict_of_version_0_1_is_read() -> None:
    mlp, images = MLP(784, [20], 10, tta=True).eval(), torch.rand(5, 28, 28)
    weights = {"turns" if name == "rotations" else name: each for name, each in mlp.state_dict().items()}
    assert torch.equal(MLP.from_state_dict(weights)(images), mlp(images))
