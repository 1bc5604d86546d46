"""What a flow run shows on its page."""

from itertools import islice

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.registry import Entry, ModelVersion
from mnist_pipeline.tracking import Run
from tasks.predict import Predicted


def report_results(test: Evaluation, exam: Evaluation, model: ModelVersion, run: Run) -> None:
    """Show what the training reached, and where it is recorded."""
    rows = "\n".join(
        f"| {digit} | {p:.2%} | {r:.2%} | {f1:.2%} |"
        for digit, (p, r, f1) in enumerate(zip(test.precision, test.recall, test.f1, strict=True))
    )
    create_markdown_artifact(
        key="training-results",
        description="What this run reached, and where it is recorded",
        markdown=f"""\
| | accuracy | loss | calibration error |
| --- | --- | --- | --- |
| test | {test} | {test.loss:.4f} | {test.calibration_error:.4f} |
| exam | {exam} | {exam.loss:.4f} | {exam.calibration_error:.4f} |

Model `{model.uri}`, now `{model.alias}`. [The run in MLflow]({run.url})

| digit (test) | precision | recall | F1 |
| --- | --- | --- | --- |
{rows}
""",
    )


def report_decision(entry: Entry, run: Run) -> None:
    """Show what the gate decided, and why."""
    checks = "\n".join(f"| {'✓' if check.passed else '✗'} | {check.name} | {check.finding} |" for check in entry.checks)
    create_markdown_artifact(
        key="promotion-decision",
        description="Whether the new version took the champion's place, and why",
        markdown=f"""\
Version {entry.version} was **{entry.action}**: {"; ".join(entry.reasons)}.

The champion is version {entry.champion or "none"}; before, it was {entry.champion_before or "none"}. Both were scored \
on the exam `{entry.exam_sha256[:12]}`. [The run in MLflow]({run.url})

| | check | finding |
| --- | --- | --- |
{checks}
""",
    )


def report_trials(rows: list[dict[str, object]]) -> None:
    """Show the trials of a sweep, the best first."""
    create_table_artifact(rows, key="trials", description="The trials, the best first")


def report_predictions(predicted: Predicted) -> None:
    """Show how often each class was predicted, and which images could not be read."""
    counts = "\n".join(f"| {label} | {count:,} |" for label, count in enumerate(predicted.counts))
    unreadable = "\n".join(f"- `{name}`: {reason}" for name, reason in islice(predicted.unreadable.items(), 100))
    create_markdown_artifact(
        key="predictions",
        description="What was predicted, and what could not be read",
        markdown=f"""\
{predicted.total:,} predictions of `{predicted.model}` in `{predicted.out}`; {len(predicted.unreadable):,} images \
could not be read.

| class | images |
| --- | --- |
{counts}

{unreadable}
""",
    )
