"""The model that an alias names, followed as the alias moves."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from mnist_pipeline.text import printable
from mnist_pipeline.tracking import versions
from mnist_pipeline.tracking.models import load_network
from mnist_pipeline.tracking.registry import Registry, parse, resolve
from mnist_pipeline.tracking.store import as_store_errors
from mnist_pipeline.training.model import Classifier


@dataclass(frozen=True)
class Loaded:
    """A version that is ready to predict."""

    name: str
    version: int
    state: versions.State  # when the card was made
    is_settled: bool  # since the question before: an alias moves before the ledger says why
    network: Classifier
    card: dict[str, Any]  # what is known of it


class Champion:
    """What `uri` names. A request keeps the version that is `loaded` when it starts, so a swap loses none.

    An alias that names no version yet is waited for.
    """

    def __init__(self, uri: str) -> None:
        """Load what `uri` names. Raises `ValueError` if it is neither an alias nor a version that exists."""
        self.uri = uri
        self.loaded: Loaded | None = None
        self.last_error: str | None = None  # why `loaded` may lag behind the alias
        _, alias, _ = parse(uri)
        if not alias:
            resolve(uri)
        self.poll()

    async def follow(self, interval: float) -> None:
        """Poll the alias every `interval` seconds."""
        while True:
            await asyncio.sleep(interval)
            await asyncio.to_thread(self.poll)

    def poll(self) -> None:
        """Load the version that the alias names now, if it is another; if that fails, keep serving what is loaded."""
        try:
            with as_store_errors():
                registry, version = resolve(self.uri)
                before, latest = self.loaded, load(registry, version, self.loaded)
            self.loaded = latest  # one assignment: there is always one whole model
            if before and latest.network is not before.network:
                print(f"Serving version {version} of {registry.name}, in place of {before.version}", flush=True)
            elif self.last_error and not before:
                print(f"Serving version {version} of {registry.name}", flush=True)
            self.last_error = None
        except Exception as error:  # the store is away for a moment, or the version cannot be loaded
            if str(error) != self.last_error:
                state = f"Still serving version {self.loaded.version}" if self.loaded else "Waiting for a model"
                print(printable(f"{state}: {error}"), file=sys.stderr, flush=True)
            self.last_error = str(error)


def load(registry: Registry, version: int, before: Loaded | None = None) -> Loaded:
    """Load a version, and what the registry says of it, unless that is what is loaded already."""
    state = versions.state(registry, version)
    same = before if before and (before.version, before.state.created) == (version, state.created) else None
    is_settled = bool(same and same.state == state)
    if same and is_settled and same.is_settled:
        return same  # the card would take reading all of the ledger
    network = same.network if same else load_network(registry.uri(version))
    return Loaded(registry.name, version, state, is_settled, network, versions.card(registry, version))
