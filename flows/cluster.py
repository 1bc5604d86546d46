"""Where trials run: on a Dask cluster of this machine's own, or on one that is there."""

import os
from typing import Any, cast

from distributed import Client
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner
from prefect_dask.task_runners import DaskTaskRunner


def dask(*, address: str | None = None, workers: int | None = None) -> TaskRunner[PrefectFuture[Any]]:
    """Run tasks on the cluster whose scheduler has that `address`, or else on this machine.

    Here it is one process a core, unless `workers` says how many, and one thread each. Workers elsewhere need this
    project installed; they fetch the data themselves.
    """
    local = {"n_workers": workers or os.cpu_count(), "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    runner = DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=local)
    return cast("TaskRunner[PrefectFuture[Any]]", runner)


def cluster_client() -> Client:
    """Give the client of the cluster that the flow run at work has."""
    context = FlowRunContext.get()
    assert context
    assert isinstance(context.task_runner, DaskTaskRunner)
    return context.task_runner.client
