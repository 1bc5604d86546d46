"""One decision about a champion at a time, on whatever machine."""

import contextlib
from collections.abc import Iterator

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.registry import Registry

LEASE = 60  # seconds after which the lock of a machine that died is free again


@contextlib.contextmanager
def champion_lock(registry: Registry) -> Iterator[None]:
    """Keep every other machine from moving the champion within the block.

    Machines that share a tracking store share a Prefect server too: a concurrency limit of its guards them. For a local
    store, the registry's own file lock is enough.
    """
    if store.is_local():
        yield
        return
    limit = f"{registry.name}-champion"
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):  # another was quicker
        client.upsert_global_concurrency_limit_by_name(limit, 1)
    with concurrency(limit, lease_duration=LEASE, strict=True):
        yield
