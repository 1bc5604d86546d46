"""What a flow run shows on its page."""

from collections.abc import Mapping, Sequence
from itertools import islice

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from mnist_pipeline.drift import Shift
from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.registry import Entry, ModelVersion
from mnist_pipeline.tracking import Run
from mnist_pipeline.validation import Finding
from tasks.predict import Predicted


def report_validation(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Show what was found in the data; give the rows."""
    rows: list[dict[str, object]] = [
        {"check": each.check, "level": each.level, "finding": each.words} for each in findings
    ]
    create_table_artifact(rows, key="data-validation", description="What was found in the data before the training")
    return rows


def report_drift(shifts: Mapping[str, Sequence[Shift]], champion: int | None) -> list[dict[str, object]]:
    """Show how far each part of the new data has moved from the champion's; give the rows."""
    rows: list[dict[str, object]] = [
        {
            "part": part,
            "statistic": each.statistic,
            "before": each.before,
            "now": each.now,
            "stability_index": round(each.index, 4),
            "verdict": each.verdict,
        }
        for part, rows in shifts.items()
        for each in rows
    ]
    create_table_artifact(
        rows,
        key="data-drift",
        description=f"How far the data have moved from those of the champion, version {champion}",
    )
    return rows


def report_results(test: Evaluation, exam: Evaluation, model: ModelVersion, run: Run) -> None:
    """Show what the training reached, and where it is recorded."""
    rows = "\n".join(
        f"| {name} | {p:.2%} | {r:.2%} | {f1:.2%} |"
        for name, p, r, f1 in zip(test.classes, test.precision, test.recall, test.f1, strict=True)
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

| class (test) | precision | recall | F1 |
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
