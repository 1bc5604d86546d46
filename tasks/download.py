"""The task that puts verified data files in place."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from mnist_pipeline.data import mnist
from mnist_pipeline.data.source import DataSource


def _is_worth_a_retry(_task: Task[..., Path], _task_run: TaskRun, state: State[Path]) -> bool:
    """Retry what the network may have caused: not local errors, which will not go away."""
    return isinstance(state.result(raise_on_failure=False), mnist.DownloadError)


# Not cached: checking the files takes less time than a cache would, and never trusts a folder that is gone.
@task(
    name="download",
    task_run_name="download",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=_is_worth_a_retry,
)
def download(source: DataSource) -> Path:
    """Return the folder of the verified files, downloaded if they are missing."""
    return mnist.download(source)
