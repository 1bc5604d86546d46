"""The task that reads, splits and normalises the images."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline import data
from mnist_pipeline.config import DatasetName
from mnist_pipeline.data import Splits


@task(name="split", task_run_name="split", cache_policy=NO_CACHE)
def split(files: Path, dataset: DatasetName) -> Splits:
    """Cut the tutorial's test part from the training images, and normalise all three sets."""
    return data.split(*data.load(dataset, files))
