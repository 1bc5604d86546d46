"""Answers as the server keeps them."""

from typing import Any

import numpy as np

from mnist_pipeline.monitoring.served import Served


def answer(number: int, pixels: np.ndarray, probabilities: np.ndarray, **others: Any) -> Served:
    """Return one of MNIST's model, whose id is `number`; `others` replace the other fields."""
    fields: dict[str, Any] = {"model": "mnist-mlp", "version": 1, "source": "page", "classes": tuple("0123456789")}
    return Served(id=f"{number:032x}", pixels=pixels, probabilities=probabilities, **fields | others)
