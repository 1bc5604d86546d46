"""Predict: a folder or file of images in, a Parquet or CSV file of predictions out."""

from flows import cli, startup

if __name__ == "__main__":  # before the other imports: a bad option ends at once, and the Prefect API boots during them
    options = cli.start(cli.predict)

import sys
from pathlib import Path

from prefect import flow

from mnist_pipeline.config import CHAMPION
from mnist_pipeline.tracking.registry import resolve
from tasks.predict import Predicted, predict
from tasks.report import report_predictions
from tasks.track import reconcile_runs


@flow(name="predict", flow_run_name="{images}")
def predict_flow(images: Path, model: str = CHAMPION, out: Path = Path("predictions.parquet")) -> Predicted:
    """Predict the class of each of `images` with a registered model, whose alias is resolved once."""
    reconcile_runs()
    registry, version = resolve(model)
    predicted = predict(images, out, model_uri=registry.uri(version), version=version)
    report_predictions(predicted)
    return predicted


if __name__ == "__main__":
    with startup.command():
        predicted = predict_flow(options["images"].absolute(), options["model"], options["out"].absolute())
    print(f"\n{predicted.total:,} images → {options['out']}, with {predicted.model}")
    for name, problem in predicted.unreadable.items():
        print(f"Not read: {name}: {problem}", file=sys.stderr)
    if predicted.unreadable:
        print(f"{len(predicted.unreadable):,} images could not be read and are left out")
