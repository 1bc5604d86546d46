"""The training step as one graph: forward, backward and update, several batches at a time."""

import os
import shutil
from itertools import chain
from typing import Any

import torch

from mnist_pipeline.config import ROOT, TrainConfig
from mnist_pipeline.model import MLP
from mnist_pipeline.optimizers import BETA1, BETA2, RULES
from mnist_pipeline.training import loss_of, takes_bfloat16

UNROLLED = 5  # batches a call: more of them spare little, and compile for longer


class CompiledStep:
    """A step of `mlp` with `config` on several batches at once, a divisor of `batches`, compiled when first taken.

    On a CUDA card the graph is captured as well. The compiler's cache stays at the project's root.
    """

    def __init__(self, mlp: MLP, config: TrainConfig, batches: int) -> None:
        if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
            raise ValueError(
                "--compile needs a C++ compiler, and there is neither g++ nor clang++: install one, or leave it"
            )
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(ROOT / ".cache" / "inductor"))
        self.stride = stride = next(count for count in range(UNROLLED, 0, -1) if batches % count == 0)
        self.steps_taken = 0
        rule = RULES[config.optimizer]
        parameters = list(mlp.parameters())
        self.buffers = buffers = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        for buffer in chain(*buffers):
            torch._dynamo.mark_static_address(buffer)  # else a graph that writes to it is not captured
        self.device = parameters[0].device
        bfloat16 = takes_bfloat16(config, self.device)

        def take(images: torch.Tensor, labels: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
            losses = []
            for batch, targets, numbers in zip(images.chunk(stride), labels.chunk(stride), coefficients, strict=True):
                loss = loss_of(mlp, batch, targets, label_smoothing=config.label_smoothing, bfloat16=bfloat16)
                gradients = torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    for parameter, gradient, (m, v) in zip(parameters, gradients, buffers, strict=True):
                        rule(parameter, gradient, m, v, *numbers)
                losses.append(loss.detach())
            return torch.stack(losses)

        torch._dynamo.config.trace_autograd_ops = True  # lets the backward pass into the graph
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        self.graph = torch.compile(take, fullgraph=True, mode=mode)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, rates: list[float]) -> torch.Tensor:
        numbers = []
        for rate in rates:
            self.steps_taken += 1
            numbers.append((rate, rate / (1 - BETA1**self.steps_taken), (1 - BETA2**self.steps_taken) ** -0.5))
        losses = self.graph(images, labels, torch.tensor(numbers, device=self.device))
        return losses.clone()  # a captured graph writes the next ones to the same place

    def state_dict(self) -> dict[str, Any]:
        return {"buffers": [list(pair) for pair in self.buffers], "steps_taken": self.steps_taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for pair, kept in zip(self.buffers, state["buffers"], strict=True):
            for buffer, values in zip(pair, kept, strict=True):
                buffer.copy_(values)
        self.steps_taken = state["steps_taken"]
