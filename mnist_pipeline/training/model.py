"""The networks: the multilayer perceptron, and the classifier that is exported around it."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.schema import Schema, normalize
from mnist_pipeline.training.augmentation import rotate

ROTATIONS = (6.0, -6.0)  # degrees


class MLP(nn.Sequential):
    """A multilayer perceptron: `inputs` → each of `hidden` → `outputs`, with ReLU between.

    Maps float32 images (N, …) with `inputs` pixels each to logits (N, outputs). Without a hidden layer it is the
    single-layer perceptron. The layers are named as in the tutorial (`fc1`, `relu1`, `fc2`, …), so that a state dict
    loads into its class.

    With `tta`, a network in eval mode averages its log-probabilities over images (N, H, W) and their rotations.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        tta: bool = False,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (fan_in, fan_out) in enumerate(pairwise([inputs, *hidden]), start=1):
            layers[f"fc{number}"] = nn.Linear(fan_in, fan_out, bias=not batch_norm)  # batch norm has its own bias
            if batch_norm:
                layers[f"bn{number}"] = nn.BatchNorm1d(fan_out)
            layers[f"relu{number}"] = nn.ReLU()
            if dropout:
                layers[f"dropout{number}"] = nn.Dropout(dropout)
        layers[f"fc{len(hidden) + 1}"] = nn.Linear(hidden[-1] if hidden else inputs, outputs)
        super().__init__(layers)
        self.sizes = (inputs, *hidden, outputs)
        self.tta = tta
        if tta:
            self.register_buffer("rotations", torch.tensor(ROTATIONS))  # in the state dict, for `from_state_dict`

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training or not self.tta:
            return self.logits(images)
        rotated = [rotate(images, degrees) for degrees in self.get_buffer("rotations")]
        return torch.stack([self.logits(each).log_softmax(dim=1) for each in (images, *rotated)]).mean(dim=0)

    @property
    def output(self) -> nn.Linear:
        """The last layer: dividing its parameters divides the logits."""
        *_, last = self
        assert isinstance(last, nn.Linear)
        return last

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, outputs) of `images` (N, …) as they are, without test-time augmentation."""
        logits: torch.Tensor = super().forward(images.flatten(1))  # type: ignore[no-untyped-call]
        return logits

    @classmethod
    def from_config(cls, config: TrainConfig, *, inputs: int, outputs: int) -> "MLP":
        """Build the network that `config` describes, with initial weights from `config.seed`."""
        torch.manual_seed(config.seed)
        return cls(inputs, config.hidden, outputs, dropout=config.dropout, batch_norm=config.batch_norm, tta=config.tta)

    @classmethod
    def from_state_dict(cls, weights: Mapping[str, torch.Tensor]) -> "MLP":
        """Build the network that `weights` belong to, for inference: without dropout. Version 0.1's are read too."""
        weights = {"rotations" if name == "turns" else name: weight for name, weight in weights.items()}
        layers = [weights[f"fc{number}.weight"] for number in range(1, len(weights)) if f"fc{number}.weight" in weights]
        sizes = [layers[0].shape[1], *(layer.shape[0] for layer in layers)]
        mlp = cls(sizes[0], sizes[1:-1], sizes[-1], batch_norm="bn1.weight" in weights, tta="rotations" in weights)
        mlp.load_state_dict(weights)
        return mlp.eval().requires_grad_(False)


class Classifier(nn.Module):
    """What is registered and served: raw uint8 images (N, H, W) in, probabilities (N, classes) out.

    Its schema holds their size and the classes' names; it is not part of the exported graph.
    """

    def __init__(self, mlp: MLP, schema: Schema = Schema()) -> None:
        super().__init__()
        self.mlp = mlp
        self.schema = schema

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 `images` (N, H, W) to float32 probabilities (N, classes)."""
        logits: torch.Tensor = self.mlp(normalize(images))
        return logits.softmax(dim=1)
