"""The task that looks at the data before anything learns from them."""

from collections.abc import Iterable

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from mnist_pipeline import drift, tracking, validation
from mnist_pipeline.data import Splits
from mnist_pipeline.drift import Profile
from mnist_pipeline.registry import Registry
from mnist_pipeline.tracking import Run
from mnist_pipeline.training import threads
from mnist_pipeline.validation import DataError
from tasks.report import report_drift, report_validation


@task(name="validate", task_run_name="validate", cache_policy=NO_CACHE)
def validate(splits: Splits, registry: Registry, run: Run) -> None:
    """Look for what is wrong with the data, and how far they have moved from those that made the champion.

    Errors end the flow here; warnings are logged. Both tables are on the run and on the flow run's page.
    """
    with threads(1):  # a second gains little on a quiet machine, and loses much on a busy one
        found = validation.findings(splits)
        profile = drift.profile(splits.train, splits.schema)
    run.log_table(report_validation(found), "validation")
    _warn(f"The data: {each.check}: {each.words}" for each in found if each.level == "warning")
    if words := validation.complaints(found):
        raise DataError(f"the data of {registry.name} cannot be trained on: {words}")

    champion, champion_run = registry.champion, registry.champion_run
    reference = tracking.load_profile(champion_run) if champion_run else None
    run.log_profile(profile)
    if champion and not reference:
        get_run_logger().info(f"Nothing is kept of the data that made the champion, version {champion}")
    if reference:
        _check_schema(reference, splits, registry)
        rows = report_drift(_shifts(reference, splits), champion)
        run.log_table(rows, "drift")
        _warn(
            f"The {row['part']} data are far from the champion's: {row['statistic']}, {row['before']} → {row['now']}"
            for row in rows
            if row["verdict"] == "large"
        )


def _shifts(reference: Profile, splits: Splits) -> dict[str, list[drift.Shift]]:
    shifts = {"training": drift.shifts(reference, splits.train)}
    if splits.extra and len(splits.extra.examples):
        shifts["extra"] = drift.shifts(reference, splits.extra.examples)
    return shifts


def _check_schema(reference: Profile, splits: Splits, registry: Registry) -> None:
    """The champion is the measure: it must know the same classes, on images of the same size."""
    if reference.schema != splits.schema:
        raise DataError(
            f"the champion of {registry.name} knows {reference.schema}, and the data have {splits.schema}: "
            f"give the dataset another --name, and so a model of its own"
        )


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        get_run_logger().warning(line)
