"""The task that checks the data before anything learns from them."""

from dataclasses import asdict

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline.data import drift, manifest, validation
from mnist_pipeline.data.drift import Profile
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.data.validation import DataError, Finding
from mnist_pipeline.monitoring import review
from mnist_pipeline.tracking.logged import load_profile, load_training_hashes
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.loop import torch_threads

LEARNT = 0.005  # share of the holdout, above which the champion's accuracy on it is no longer its accuracy


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
    _log_warnings(findings)
    if errors := validation.errors(findings):
        raise DataError(f"the data of {registry.name} cannot be trained on: {errors}")

    run.log_profile(profile)
    run.log_manifest(splits)
    for name in (review.TABLE, review.SHEET):  # which corrections this version learns from
        if splits.extra and (file := splits.extra.folder / name).is_file():
            run.log_file(file)
    if champion_run := registry.run_of(registry.champion):
        reference = load_profile(champion_run)
        if reference:
            against = [*_report_drift(reference, splits, run), *_compare_images(champion_run, splits)]
            _log_warnings(against)
            findings += against
        else:
            get_run_logger().info("There is no profile of the data that the champion learnt from")
    return findings


def _log_warnings(findings: list[Finding]) -> None:
    for finding in findings:
        if finding.level == "warning":
            get_run_logger().warning(f"The data: {finding.check}: {finding.message}")


def _report_drift(reference: Profile, splits: Splits, run: Run) -> list[Finding]:
    """Log how far the data have drifted from the champion's, and return a finding for each large shift."""
    before, now = reference.schema, splits.schema
    if before != now:  # no model of theirs can be compared with the champion
        is_read_alike = before.preprocessing == now.preprocessing
        known, given = (str(each) if is_read_alike else f"{each}, {each.preprocessing}" for each in (before, now))
        raise DataError(
            f"the champion of {splits.source.model_name} knows {known}, and the data have {given}: "
            f"{_keep_size(before, now)}give the dataset another name, and so a model of its own"
        )
    parts = {"training": splits.train}
    if splits.extra and len(splits.extra.examples):
        parts["extra"] = splits.extra.examples
    rows = [{"part": name, **asdict(shift)} for name, part in parts.items() for shift in drift.shifts(reference, part)]
    run.log_table(rows, "drift")
    create_table_artifact(rows, key="data-drift", description="How far the data have drifted from the champion's")
    changes = [
        f"the {row['part']} data are far from the champion's: {row['statistic']}, {row['before']} → {row['now']}"
        for row in rows
        if row["verdict"] == "large"
    ]
    return [Finding("drift", "warning", change) for change in changes]


def _keep_size(before: Schema, now: Schema) -> str:
    """Return the remedy if images of another size are what makes `now` differ, of which a single one is enough."""
    is_same_size = (before.height, before.width) == (now.height, now.width)
    if before.classes != now.classes or before.height != before.width or is_same_size:
        return ""
    return f"if only some images differ in size, --image-size {before.height} reads all in the champion's; or "


def _compare_images(champion_run: str, splits: Splits) -> list[Finding]:
    """Warn if the champion has learnt from what it will be compared on, or from nothing that is there now."""
    if splits.source.is_named:  # whose splits are always the same
        return []
    learnt, total = load_training_hashes(champion_run), len(splits.holdout)
    known = sum(each in learnt for each in manifest.image_hashes(splits.holdout))
    if known > LEARNT * total:
        found = f"{known:,} of the {total:,} images of the holdout: the gate's comparison favours it; give the dataset"
    elif learnt and learnt.isdisjoint(manifest.image_hashes(splits.train)):
        found = "none of these images: if they are another dataset, give it"
    else:
        return []
    return [Finding("champion", "warning", f"the champion has learnt from {found} another name")]
