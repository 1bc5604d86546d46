"""Predict: a folder or file of images in, a Parquet or CSV file of predictions out."""

from flows import startup

if __name__ == "__main__":  # before the other imports: a signal or a bad option ends it at once, and the API boots
    startup.begin()
    from flows import cli

    options = cli.start(cli.predict)

import sys
from pathlib import Path

from prefect import flow

from mnist_pipeline.config import CHAMPION, check_min_confidence
from mnist_pipeline.text import counted
from mnist_pipeline.tracking.registry import resolve
from tasks.predict import UNSURE, Predicted, predict
from tasks.report import report_predictions
from tasks.track import reconcile_runs


@flow(name="predict", flow_run_name="{images}")
def predict_flow(
    images: Path,
    model: str = CHAMPION,
    out: Path = Path("predictions.parquet"),
    *,
    split: bool = False,
    explain: Path | None = None,
    min_confidence: float = 0.0,
) -> Predicted:
    """Predict the class of each of `images` with a registered model, whose alias is resolved once."""
    check_min_confidence(min_confidence)
    reconcile_runs()
    registry, version = resolve(model)
    uri = registry.uri(version)
    predicted = predict(
        images, out, model_uri=uri, version=version, split=split, explain=explain, min_confidence=min_confidence
    )
    report_predictions(predicted)
    return predicted


if __name__ == "__main__":
    with startup.command():
        predicted = predict_flow(
            options["images"].absolute(),
            options["model"],
            options["out"].absolute(),
            split=options["split"],
            explain=options["explain"] and options["explain"].absolute(),
            min_confidence=options["min_confidence"],
        )
    noun = "digit" if options["split"] else "image"
    print(f"\n{counted(predicted.total, noun)} → {options['out']}, with {predicted.model}")
    for name, problem in predicted.unreadable.items():
        print(f"Not read: {name}: {problem}", file=sys.stderr)
    if unsure := predicted.counts.get(UNSURE):
        print(f"{counted(unsure, 'image')} without a prediction: too unsure, or not clear")
    if predicted.unclear:
        print(f"{counted(predicted.unclear, 'prediction')} with a warning: the column of that name says why")
    if predicted.unreadable:
        print(f"{counted(len(predicted.unreadable), 'image')} not read, and left out")
    for what, count in predicted.left_out.items():
        print(f"Left out: {what}: {count:,}")
