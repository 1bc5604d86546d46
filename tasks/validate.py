"""The task that checks the data before anything learns from them."""

from dataclasses import asdict

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline import review
from mnist_pipeline.data import drift, validation
from mnist_pipeline.data.drift import Profile
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.data.validation import DataError, Finding
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.runs import Run, load_profile
from mnist_pipeline.training.loop import torch_threads


@task(name="validate", task_run_name="validate", cache_policy=NO_CACHE)
def validate(splits: Splits, run: Run) -> list[Finding]:
    """Check the data, and how far they have drifted from those that the champion learnt from; return the findings.

    An error ends the flow here; warnings are logged. Both tables are logged to the run and shown on the flow run's
    page.
    """
    registry = Registry(splits.source.model_name)
    with torch_threads(1):  # more hurt on a busy machine
        findings = validation.findings(splits)
        profile = drift.profile(splits.train, splits.schema)
    rows = [asdict(finding) for finding in findings]
    run.log_table(rows, "validation")
    create_table_artifact(rows, key="data-validation", description="The checks of the data before the training")
    for finding in findings:
        if finding.level == "warning":
            get_run_logger().warning(f"The data: {finding.check}: {finding.message}")
    if errors := validation.errors(findings):
        raise DataError(f"the data of {registry.name} cannot be trained on: {errors}")

    run.log_profile(profile)
    run.log_manifest(splits)
    for name in (review.TABLE, review.SHEET):  # which corrections this version learns from
        if splits.extra and (file := splits.extra.folder / name).is_file():
            run.log_file(file)
    if champion_run := registry.champion_run:
        reference = load_profile(champion_run)
        if reference:
            _report_drift(reference, splits, run)
        else:
            get_run_logger().info("There is no profile of the data that the champion learnt from")
    return findings


def _report_drift(reference: Profile, splits: Splits, run: Run) -> None:
    if reference.schema != splits.schema:  # no model of theirs can be compared with the champion
        raise DataError(
            f"the champion of {splits.source.model_name} knows {reference.schema}, and the data have {splits.schema}: "
            f"give the dataset another name, and so a model of its own"
        )
    parts = {"training": splits.train}
    if splits.extra and len(splits.extra.examples):
        parts["extra"] = splits.extra.examples
    rows = [{"part": name, **asdict(shift)} for name, part in parts.items() for shift in drift.shifts(reference, part)]
    run.log_table(rows, "drift")
    create_table_artifact(rows, key="data-drift", description="How far the data have drifted from the champion's")
    for row in rows:
        if row["verdict"] == "large":
            change = f"{row['statistic']}, {row['before']} → {row['now']}"
            get_run_logger().warning(f"The {row['part']} data are far from the champion's: {change}")
