"""The task that reads and splits the images."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits, load_splits


@task(name="split", task_run_name="split", cache_policy=NO_CACHE, log_prints=True)
def split(folder: Path, source: DataSource) -> Splits:
    """Read the images, and cut them into train, test and holdout."""
    splits = load_splits(source, folder)
    if splits.relabelled:
        print(splits.relabelled)
    return splits
