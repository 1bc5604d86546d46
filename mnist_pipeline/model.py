"""The networks: the multilayer perceptron, and the classifier that is exported around it."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from mnist_pipeline.augmentation import turn
from mnist_pipeline.config import Schema, TrainConfig
from mnist_pipeline.data import normalize

TURNS = (6.0, -6.0)  # degrees


class MLP(nn.Sequential):
    """A multilayer perceptron: `inputs` → each of `hidden` → `outputs`, with ReLU between.

    Maps float32 images (N, …) of so many `inputs` to logits (N, outputs). No hidden layer at all makes the single-layer
    perceptron. The layers are named as in the tutorial (`fc1`, `relu1`, `fc2`, …), so that a state dict fits its class.

    With `turned`, a trained network answers with the mean over images (N, H, W) as they are and turned a little to
    either side: the logits are the mean of its log-probabilities.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        turned: bool = False,
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
        if turned:
            self.register_buffer("turns", torch.tensor(TURNS))  # in the state dict, to tell who builds it again

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = super().forward(images.flatten(1))  # type: ignore[no-untyped-call]
        if self.training or "turns" not in self._buffers:
            return logits
        turned = [turn(images, degrees).flatten(1) for degrees in self.get_buffer("turns")]
        return torch.stack([each.log_softmax(dim=1) for each in (logits, *map(super().forward, turned))]).mean(dim=0)

    @classmethod
    def from_config(cls, config: TrainConfig, *, inputs: int, outputs: int) -> "MLP":
        """Build the network that `config` describes, its weights drawn from `config.seed`."""
        torch.manual_seed(config.seed)
        return cls(
            inputs, config.hidden, outputs, dropout=config.dropout, batch_norm=config.batch_norm, turned=config.turned
        )

    @classmethod
    def from_state_dict(cls, weights: Mapping[str, torch.Tensor]) -> "MLP":
        """Build the network that `weights` belong to, for inference: dropout has none, and is left out."""
        layers = [weights[f"fc{number}.weight"] for number in range(1, len(weights)) if f"fc{number}.weight" in weights]
        sizes = [layers[0].shape[1], *(layer.shape[0] for layer in layers)]
        mlp = cls(sizes[0], sizes[1:-1], sizes[-1], batch_norm="bn1.weight" in weights, turned="turns" in weights)
        mlp.load_state_dict(weights)
        return mlp.eval().requires_grad_(False)


class Classifier(nn.Module):
    """What is registered and served: raw uint8 images (N, H, W) in, probabilities (N, classes) out.

    Its schema tells their size and the classes' names; it is no part of the exported graph.
    """

    def __init__(self, mlp: MLP, schema: Schema = Schema()) -> None:
        super().__init__()
        self.mlp = mlp
        self.schema = schema

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 `images` (N, H, W) to float32 probabilities (N, classes)."""
        logits: torch.Tensor = self.mlp(normalize(images))
        return logits.softmax(dim=1)
