"""Predict: a folder or file of images in, a Parquet or CSV file of predictions out."""

if __name__ == "__main__":  # first of all, so that the Prefect API boots while the imports below load
    from flows import command_line

    command_line.run(command_line.predict)

from pathlib import Path

from prefect import flow

from mnist_pipeline.config import CHAMPION
from mnist_pipeline.registry import resolve
from tasks.predict import Predicted, predict
from tasks.report import report_predictions
from tasks.track import sign_on


@flow(name="predict", flow_run_name="{images}")
def predict_flow(images: Path, model: str = CHAMPION, out: Path = Path("predictions.parquet")) -> Predicted:
    """Predict the class of each of `images` with a registered model, whose alias is looked up once."""
    sign_on()
    registry, version = resolve(model)
    predicted = predict(images, out, model_uri=registry.uri(version), version=version)
    report_predictions(predicted)
    return predicted
