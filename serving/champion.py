"""The model that an alias names, followed as the alias moves."""

import asyncio
import logging
from dataclasses import dataclass

import torch

from mnist_pipeline.tracking.models import load_network
from mnist_pipeline.tracking.registry import Registry, resolve
from mnist_pipeline.training.model import Classifier

logger = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Loaded:
    """A version that is ready to predict."""

    name: str
    version: int
    network: Classifier


class Champion:
    """What `uri` names. A request keeps the version that is `loaded` when it starts, so a swap loses none."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.loaded = load(*resolve(uri))
        self.last_error: str | None = None  # why `loaded` may lag behind the alias

    async def follow(self, interval: float) -> None:
        """Poll the alias every `interval` seconds."""
        while True:
            await asyncio.sleep(interval)
            await asyncio.to_thread(self.poll)

    def poll(self) -> None:
        """Load the version that the alias names now, if it is another; if that fails, keep serving what is loaded."""
        try:
            registry, version = resolve(self.uri)
            if version != self.loaded.version:
                latest = load(registry, version)
                logger.info(f"Serving version {version} of {registry.name}, in place of {self.loaded.version}")
                self.loaded = latest  # one assignment: there is always one whole model
            self.last_error = None
        except Exception as error:  # the store is away for a moment, or the version cannot be loaded
            if str(error) != self.last_error:
                logger.warning(f"Still serving version {self.loaded.version}: {error}")
            self.last_error = str(error)


def load(registry: Registry, version: int) -> Loaded:
    """Load a version and predict once: the first call is slow."""
    network = load_network(registry.uri(version))
    schema = network.schema
    blank = torch.zeros((2, schema.height, schema.width), dtype=torch.uint8)
    assert network(blank).shape == (2, len(schema.classes)), f"{registry.uri(version)} does not match its schema"
    return Loaded(registry.name, version, network)
