"""The task that reads, splits and normalises the images."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline import data
from mnist_pipeline.config import DatasetName
from mnist_pipeline.data import Splits
from mnist_pipeline.tracking import Run


@task(name="split", task_run_name="split", cache_policy=NO_CACHE)
def split(files: Path, dataset: DatasetName, run: Run) -> Splits:
    """Cut the tutorial's test part from the training images, normalise, and name the data in the run."""
    training, exam = data.load(dataset, files)
    splits = data.split(training, exam)
    run.log_params(
        {
            "dataset": dataset,
            "data_sha256": training.sha256,
            "exam_sha256": exam.sha256,
            "train_size": len(splits.train),
            "test_size": len(splits.test),
            "exam_size": len(splits.exam),
        }
    )
    for context, examples in (("training", splits.train), ("test", splits.test), ("exam", splits.exam)):
        run.log_dataset(examples, name=f"{dataset}-{context}", context=context, source=files)
    return splits
