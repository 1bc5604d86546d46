"""The model that an alias names, followed as the alias moves."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mnist_pipeline import tracking
from mnist_pipeline.config import Schema
from mnist_pipeline.registry import resolve

logger = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Loaded:
    """A version that is ready to predict."""

    name: str
    version: int
    predict: Callable[[torch.Tensor], torch.Tensor]  # uint8 images (N, H, W) → probabilities (N, classes)
    schema: Schema


class Champion:
    """What `uri` names. Each request takes what is `loaded` once, and keeps it to its end: a swap loses none."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.trouble: str | None = None  # why it may lag behind the alias
        self.loaded = self._load()

    async def follow(self, every: float) -> None:
        """Look every so many seconds whether the alias has moved; whatever goes wrong, go on with what there is."""
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        try:
            latest = self._load()
        except Exception as error:  # a store that is away for a moment, a version that cannot be loaded
            if str(error) != self.trouble:
                logger.warning(f"Still serving version {self.loaded.version}: {error}")
            self.trouble = str(error)
            return
        self.trouble = None
        if latest is not self.loaded:
            logger.info(f"Serving version {latest.version} of {latest.name}, in place of {self.loaded.version}")
            self.loaded = latest  # one assignment: there is always one whole model

    def _load(self) -> Loaded:
        registry, version = resolve(self.uri)
        loaded = getattr(self, "loaded", None)
        if isinstance(loaded, Loaded) and loaded.version == version:
            return loaded
        network = tracking.load_network(registry.uri(version))
        schema = network.schema
        blank = torch.zeros((2, schema.height, schema.width), dtype=torch.uint8)
        assert network(blank).shape == (2, len(schema.classes))  # the first call is slow
        return Loaded(registry.name, version, network, schema)
