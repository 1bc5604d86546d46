"""The task that puts verified data files in place."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline import data
from mnist_pipeline.config import DataSource


# Not cached: looking whether the files are whole takes less time than a cache would, and never trusts a folder that is
# gone. Retried for the sake of the network; the package's own copy needs no second try.
@task(name="download", task_run_name="download", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10])
def download(source: DataSource) -> Path:
    """Put the four verified files where torchvision reads them."""
    return data.download(source)
