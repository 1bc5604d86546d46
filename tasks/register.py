"""The tasks that register the model, and make a first version the champion."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.data.splits import Splits
from mnist_pipeline.text import percent
from mnist_pipeline.tracking import models
from mnist_pipeline.tracking.registry import ModelVersion, Registry
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.evaluation import Evaluation, coverage
from mnist_pipeline.training.model import MLP
from tasks.champion_lock import champion_lock


@task(name="register", task_run_name="register", cache_policy=NO_CACHE)
def register(
    mlp: MLP, splits: Splits, evaluations: tuple[Evaluation, Evaluation], run: Run, *, epoch: int
) -> ModelVersion:
    """Log and register the network after `epoch` epochs, with a few test images as the input example."""
    test, holdout = evaluations
    model_uri = models.log_model(run, mlp, splits.test.pixels[:10], step=epoch, schema=splits.schema)
    sizes = "-".join(map(str, mlp.sizes))
    trained_by = f"Trained by [the run `{run.id}`]({run.url})."
    covered = _coverage(splits, holdout)
    model = Registry(splits.source.model_name).register(
        run,
        model_uri,
        description=f"{sizes}, {epoch} epochs: test {test}, holdout {holdout}. {trained_by}\n\n{covered}",
        tags={
            "test_accuracy": f"{test.accuracy:.6f}",
            "holdout_accuracy": f"{holdout.accuracy:.6f}",
            "layers": sizes,
            "data": str(splits),
        },
    )
    input_shape = f"(N, {splits.schema.height}, {splits.schema.width})"
    run.set_tags(
        {
            "mlflow.note.content": f"""\
A multilayer perceptron, {sizes}, trained for {epoch} epochs by `mnist-pipeline`.

- test: {test}, loss {test.loss:.4f}, calibration error {test.calibration_error:.4f}
- holdout: {holdout}, loss {holdout.loss:.4f}, calibration error {holdout.calibration_error:.4f}

[Compare it with the other runs]({run.comparison_url}). The losses are under *Model metrics*; the figures and the \
numbers of each class under *Artifacts*. It is version {model.number} of the registered model `{model.name}`; with raw \
`uint8` images `{input_shape}`:

```python
model = mlflow.pyfunc.load_model("{model.uri}")
probabilities = model.predict(images)  # (N, {len(splits.schema.classes)}): {", ".join(splits.schema.classes[:20])}
```
"""
        }
    )
    return model


def _coverage(splits: Splits, holdout: Evaluation) -> str:
    """Return, as Markdown, what a minimum confidence costs: the table from which to choose `--min-confidence`."""
    rows = "\n".join(
        f"| {row.min_confidence} | {percent(row.share)} | {percent(row.accuracy)} |"
        for row in coverage(holdout.probabilities, splits.holdout.labels)
        if row.min_confidence and row.answered
    )
    return f"| minimum confidence | of the holdout answered | of these right |\n| --- | --- | --- |\n{rows}"


def promote_first(model: ModelVersion, holdout: Evaluation) -> ModelVersion:
    """Make `model` the champion if there is none yet, and it beats guessing."""
    if not holdout.beats_guessing:
        return model
    registry = Registry(model.name)
    with champion_lock(registry):
        return registry.promote_first(model)
