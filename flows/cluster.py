"""Where the trials of a search run: on a local Dask cluster, or on an existing one."""

import logging
import multiprocessing
import os
from typing import Any, cast

from distributed import Client
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner
from prefect_dask.task_runners import DaskTaskRunner

from mnist_pipeline.config import Inspection, Search


def task_runner(search: Search | Inspection = Search()) -> TaskRunner[PrefectFuture[Any]]:
    """Return a task runner for the cluster that `search` names, or a local one with one thread per process.

    Workers elsewhere need this project installed; they fetch the data themselves.
    """
    logging.getLogger("distributed").setLevel(logging.ERROR)  # it reports each worker that it stops
    if search.dask_address:
        runner = DaskTaskRunner(address=search.dask_address)
    else:
        _check_semaphores()
        workers = search.workers or os.cpu_count()
        local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
        runner = DaskTaskRunner(cluster_kwargs=local | {"silence_logs": logging.ERROR})  # in the workers too
    return cast("TaskRunner[PrefectFuture[Any]]", runner)


def _check_semaphores() -> None:
    """Raise `OSError` if this machine makes no semaphores, which each of Dask's processes needs."""
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise OSError(f"the workers cannot start: {error.strerror}; make /dev/shm writable, with some room") from None


def cluster_client() -> Client:
    """Return the client of the current flow run's cluster."""
    context = FlowRunContext.get()
    assert context
    assert isinstance(context.task_runner, DaskTaskRunner)
    return context.task_runner.client
