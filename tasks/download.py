"""The task that puts verified data files in place."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from mnist_pipeline import data
from mnist_pipeline.config import DataSource


def _is_worth_another_try(task: Task[..., Path], task_run: TaskRun, state: State[Path]) -> bool:
    """The network may be back in a moment; a folder that cannot be written will not be."""
    return isinstance(state.result(raise_on_failure=False), data.DownloadError)


# Not cached: looking whether the files are whole takes less time than a cache would, and never trusts a folder that is
# gone.
@task(
    name="download",
    task_run_name="download",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=_is_worth_another_try,
)
def download(source: DataSource) -> Path:
    """Put the four verified files where torchvision reads them."""
    return data.download(source)
