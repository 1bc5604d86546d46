"""The artifacts on a flow run's page."""

from itertools import islice
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact

from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.registry import ModelVersion
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.evaluation import Evaluation

if TYPE_CHECKING:  # training need not import what prediction does
    from tasks.predict import Predicted


def report_results(test: Evaluation, holdout: Evaluation, model: ModelVersion, run: Run) -> None:
    """Show the results of the training, and where they are recorded."""
    rows = "\n".join(
        f"| {name} | {p:.2%} | {r:.2%} | {f1:.2%} |"
        for name, p, r, f1 in zip(test.classes, test.precision, test.recall, test.f1, strict=True)
    )
    create_markdown_artifact(
        key="training-results",
        description="The results of this run, and where they are recorded",
        markdown=f"""\
{results_table(test, holdout)}

Model `{model.uri}`, now `{model.alias}`. [The run in MLflow]({run.url})

| class (test) | precision | recall | F1 |
| --- | --- | --- | --- |
{rows}
""",
    )


def report_decision(entry: LedgerEntry, run: Run) -> None:
    """Show what the gate decided, and why."""
    checks = "\n".join(f"| {'✓' if check.passed else '✗'} | {check.name} | {check.finding} |" for check in entry.checks)
    create_markdown_artifact(
        key="promotion-decision",
        description="Whether the new version became the champion, and why",
        markdown=f"""\
Version {entry.version} was **{entry.action}**: {"; ".join(entry.reasons)}.

The champion is version {entry.champion or "none"}; before that it was {entry.champion_before or "none"}. Both were \
evaluated on the holdout `{entry.holdout_sha256[:12]}`. [The run in MLflow]({run.url})

| | check | finding |
| --- | --- | --- |
{checks}
""",
    )


def report_predictions(predicted: "Predicted") -> None:
    """Show how often each class was predicted, and which images could not be read."""
    counts = "\n".join(f"| {label} | {count:,} |" for label, count in predicted.counts.items())
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


def results_table(test: Evaluation, holdout: Evaluation) -> str:
    """Return the results as a Markdown table."""
    return f"""\
| | accuracy | loss | calibration error |
| --- | --- | --- | --- |
| test | {test} | {test.loss:.4f} | {test.calibration_error:.4f} |
| holdout | {holdout} | {holdout.loss:.4f} | {holdout.calibration_error:.4f} |"""
