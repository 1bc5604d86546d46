"""The run's report, and the artifacts on a flow run's page."""

from itertools import islice
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.data.splits import Splits
from mnist_pipeline.text import aligned, counted, markdown_text, percent
from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.report import Report, render
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.evaluation import Evaluation

if TYPE_CHECKING:  # training need not import what prediction does
    from tasks.predict import Predicted

WON_AND_LOST = """\
Won: right where the champion is wrong; lost: the other way round. p: how likely so many losses are if both are equally
good; near 1 for a better version."""


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def write_report(report: Report, splits: Splits, run: Run) -> None:
    """Log the report of the run as `report.html`."""
    run.log_html(render(report, splits, run_id=run.id, tags=run.tags), "report")


def report_results(report: Report, run: Run) -> None:
    """Show the results of the training, and where they are recorded."""
    test, model = report.test, report.model
    rows = "\n".join(
        f"| {markdown_text(name)} | {percent(p)} | {percent(r)} | {percent(f1)} |"
        for name, p, r, f1 in zip(test.classes, test.precision, test.recall, test.f1, strict=True)
    )
    create_markdown_artifact(
        key="training-results",
        description="The results of this run, and where they are recorded",
        markdown=f"""\
{results_table(test, report.holdout)}

Model `{model.uri}`, now `{model.alias}`. [The run in MLflow]({run.url})

| class (test) | precision | recall | F1 |
| --- | --- | --- | --- |
{rows}
""",
    )


def report_decision(entry: LedgerEntry, run: Run) -> None:
    """Show what the gate decided, and why."""
    header, *rows = ([*map(markdown_text, row)] for row in _checks(entry))
    table = "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
    create_markdown_artifact(
        key="promotion-decision",
        description="Whether the new version became the champion, and why",
        markdown=f"""\
Version {entry.version} was **{entry.action}**: {"; ".join(entry.reasons)}.

The champion is version {entry.champion or "none"}, and was {entry.champion_before or "none"} before. Both were \
evaluated on the holdout `{entry.holdout_sha256[:12]}`. [The run in MLflow]({run.url})

{table}

{WON_AND_LOST}
""",
    )


def decision(entry: LedgerEntry) -> str:
    """Return what the gate decided and the table of its checks, as text for a terminal."""
    note = f"\n{WON_AND_LOST}" if entry.champion_before else ""
    return f"Version {entry.version} {entry.action}: {'; '.join(entry.reasons)}\n{aligned(_checks(entry))}{note}"


def _checks(entry: LedgerEntry) -> list[list[str]]:
    """Return what each check of the gate found, what it requires and which option changes that, under a header."""
    rows = [
        [
            check.name,
            "passed" if check.passed else "FAILED",
            check.finding,
            check.required,
            check.field and f"--{check.field.replace('_', '-')}",
        ]
        for check in entry.checks
    ]
    return [["check", "result", "found", "required", "option"], *rows]


def report_predictions(predicted: "Predicted") -> None:
    """Show how often each class was predicted, and which images could not be read."""
    counts = "\n".join(f"| {markdown_text(label)} | {count:,} |" for label, count in predicted.counts.items())
    unreadable = (
        f"- {markdown_text(name)}: {markdown_text(why)}" for name, why in islice(predicted.unreadable.items(), 100)
    )
    left_out = (f"- Left out: {markdown_text(what)}: {count:,}" for what, count in predicted.left_out.items())
    lines = "\n".join([*unreadable, *left_out])
    create_markdown_artifact(
        key="predictions",
        description="What was predicted, and what could not be read",
        markdown=f"""\
{counted(predicted.total, "prediction")} of `{predicted.model}` in `{predicted.out}`, {predicted.unclear:,} of them \
with a warning; {counted(len(predicted.unreadable), "image")} could not be read.

| class | images |
| --- | --- |
{counts}

{lines}
""",
    )


def results_table(test: Evaluation, holdout: Evaluation) -> str:
    """Return the results as a Markdown table."""
    return f"""\
| | accuracy | loss | calibration error |
| --- | --- | --- | --- |
| test | {test} | {test.loss:.4f} | {test.calibration_error:.4f} |
| holdout | {holdout} | {holdout.loss:.4f} | {holdout.calibration_error:.4f} |"""
