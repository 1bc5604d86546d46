"""Inspect the labels: train the folds, list the images whose labels look wrong, and report how well it went."""

from flows import startup

if __name__ == "__main__":  # before the other imports: a signal or a bad option ends it at once, and the API boots
    startup.begin()
    from flows import cli

    options = cli.start(cli.inspect)

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from prefect import flow

from flows.cluster import task_runner
from flows.train_flow import Config
from mnist_pipeline.config import FAST, Inspection
from mnist_pipeline.data.label_issues import LabelIssue
from mnist_pipeline.data.mnist import import_readers
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import development
from mnist_pipeline.text import aligned, percent
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training.evaluation import Evaluation
from mnist_pipeline.training.loop import check_trainable
from tasks.download import download
from tasks.inspect import find_label_issues, fold
from tasks.notify import notify_of_state
from tasks.split import split
from tasks.track import parent_run, reconcile_runs
from tasks.train import adapt_to_data
from tasks.validate import validate

MAX_SHOWN = 20


@dataclass(frozen=True)
class Inspected:
    """The labels that look wrong, the worst first, and the accuracy on images that were not learnt from."""

    issues: list[LabelIssue]
    evaluation: Evaluation
    deviation: float  # of the accuracy, from fold to fold
    run: Run

    def __str__(self) -> str:
        rows = [["file", "set", "label", "likely", "confidence"]]
        rows += [[each.file, each.set, each.label, each.likely, percent(each.confidence, 1)] for each in self.issues]
        return f"""\
{aligned(rows[: MAX_SHOWN + 1]) if self.issues else "No label looks wrong"}

Cross-validation  {self.evaluation}, ± {100 * self.deviation:.2f} points from fold to fold
Label issues      {len(self.issues):,} in {self.evaluation.total:,} images; the holdout is left alone
MLflow run        {self.run.id}"""


@flow(
    name="inspect",
    flow_run_name="{source.name}, {inspection.folds} folds",
    on_failure=[notify_of_state],
    on_crashed=[notify_of_state],
)
def inspect_flow(
    inspection: Inspection = Inspection(),
    config: Config = FAST,
    source: DataSource = DataSource(),
    *,
    out: Path = Path("label-issues.csv"),
) -> Inspected:
    """Predict each image of train and test by a network that has not seen it, and list the labels that look wrong."""
    reconcile_runs()
    splits = split(download(source), source)
    config = adapt_to_data(replace(config, validation=0.0, patience=0), splits)  # a fold learns from all of its images
    part, folds = development(splits, folds=inspection.folds, seed=config.seed)
    check_trainable(config, splits.schema, images=int((folds != 0).sum()))
    params = asdict(config) | {"folds": inspection.folds, "dataset": source.name, "data_sha256": splits.sha256}
    with parent_run(params, name=f"inspect, {inspection.folds} folds", experiment=source.name) as run:
        validate(splits, run)
        numbers, outputs = range(inspection.folds), len(splits.schema.classes)
        if inspection.in_turn:
            predicted = [fold(number, part, folds, config, outputs=outputs) for number in numbers]
        else:
            futures = [fold.submit(number, part, folds, config, outputs=outputs) for number in numbers]
            predicted = [future.result() for future in futures]
        issues, evaluation, deviation = find_label_issues(splits, part, folds, predicted, run, out)
    return Inspected(issues, evaluation, deviation, run)


if __name__ == "__main__":
    import_readers()
    options["out"] = options["out"].absolute()
    inspection, out = options["inspection"], options["out"]
    runner = None if inspection.in_turn else task_runner(inspection)
    with startup.command():
        inspected = inspect_flow.with_options(task_runner=runner)(**options)
    print(f"\n{inspected}")
    print(f"Table             {out}, and beside it a sheet of the worst as a PNG")
    print("To correct them   edit its column label (empty: leave the image out), and add --relabel to your commands")
