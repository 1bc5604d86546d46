"""The task that reads and splits the images."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline import datasets
from mnist_pipeline.config import DataSource
from mnist_pipeline.data import Splits


@task(name="split", task_run_name="split", cache_policy=NO_CACHE)
def split(files: Path, source: DataSource) -> Splits:
    """Read the images, and cut the tutorial's test part from those to train on."""
    return datasets.prepare(source, files)
