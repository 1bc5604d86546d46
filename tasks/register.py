"""The task that logs the model and registers it."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.config import Schema
from mnist_pipeline.data import Splits
from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.model import MLP
from mnist_pipeline.registry import ModelVersion, Registry
from mnist_pipeline.tracking import Run


@task(name="register", task_run_name="register", cache_policy=NO_CACHE)
def register(
    mlp: MLP, splits: Splits, test: Evaluation, exam: Evaluation, registry: Registry, run: Run, *, epoch: int
) -> ModelVersion:
    """Register the network after `epoch` epochs, with a few test images to show its input."""
    model_uri = run.log_model(mlp, splits.test.pixels[:10], step=epoch, schema=splits.schema)
    sizes = "-".join(map(str, mlp.sizes))
    model = registry.register(
        run,
        model_uri,
        description=f"{sizes}, {epoch} epochs: test {test}, exam {exam}. Trained by [the run `{run.id}`]({run.url}).",
        tags={
            "test_accuracy": f"{test.accuracy:.4f}",
            "exam_accuracy": f"{exam.accuracy:.4f}",
            "layers": sizes,
            "data": str(splits),
        },
    )
    run.set_tags({"mlflow.note.content": _note(sizes, test, exam, model, splits.schema, epoch)})
    return model


def _note(sizes: str, test: Evaluation, exam: Evaluation, model: ModelVersion, schema: Schema, epoch: int) -> str:
    """Tell a stranger who finds the run in MLflow what it is, what came out, and how to load it."""
    return f"""\
A multilayer perceptron, {sizes}, trained for {epoch} epochs by `mnist-pipeline`.

| | accuracy | loss | calibration error |
| --- | --- | --- | --- |
| Test accuracy | {test} | {test.loss:.4f} | {test.calibration_error:.4f} |
| Exam accuracy | {exam} | {exam.loss:.4f} | {exam.calibration_error:.4f} |

The losses are under *Model metrics*, the figures under *Artifacts*. It is version {model.number} of the registered \
model `{model.name}`; with raw `uint8` images `(N, {schema.height}, {schema.width})`:

```python
model = mlflow.pyfunc.load_model("{model.uri}")
probabilities = model.predict(images)  # (N, {len(schema.classes)}): {", ".join(schema.classes[:20])}
```
"""
