"""The tasks that inspect the labels: one training of a fold, and what was found.

Their bodies may not name the module torch: Dask sends them by value, and cannot pickle it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data import label_issues
from mnist_pipeline.data.label_issues import LabelIssue
from mnist_pipeline.data.splits import Examples, Splits
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training import plots
from mnist_pipeline.training.cross_validation import in_order, predict_unseen
from mnist_pipeline.training.evaluation import Evaluation, evaluate


@task(name="fold", task_run_name="fold-{number}", cache_policy=NO_CACHE, log_prints=True)
def fold(number: int, part: Examples, folds: np.ndarray, config: TrainConfig, *, outputs: int) -> torch.Tensor:
    """Train on all of `part` but one of its `folds` (N,); return that one's probabilities (n, outputs)."""
    unseen = folds == number
    probabilities = predict_unseen(part, unseen, config, outputs=outputs)
    right = int((probabilities.argmax(dim=1) == part.labels[unseen]).sum())
    print(f"Fold {number + 1}: {right:,} of {len(probabilities):,} right")
    return probabilities


@task(name="find label issues", task_run_name="find-label-issues", cache_policy=NO_CACHE)
def find_label_issues(
    splits: Splits, part: Examples, folds: np.ndarray, predicted: Sequence[torch.Tensor], run: Run, out: Path
) -> tuple[list[LabelIssue], Evaluation, float]:
    """Log and write the labels that look wrong; return them, the cross-validated accuracy, and its deviation.

    `predicted` are the probabilities of each fold, (n, classes).
    """
    probabilities = in_order(predicted, folds)
    evaluation = evaluate(probabilities, part.labels, splits.schema.classes)
    right = (probabilities.argmax(dim=1) == part.labels).numpy()
    by_fold = [float(right[folds == number].mean()) for number in range(folds.max() + 1)]
    deviation = float(np.std(by_fold, ddof=1))
    for number, accuracy in enumerate(by_fold, 1):
        run.log_metrics({"fold_accuracy": accuracy}, step=number)
    issues = label_issues.describe(part, probabilities.numpy(), splits.schema.classes, train=len(splits.train))
    metrics = evaluation.metrics("cv") | {"cv_accuracy_sd": deviation, "label_issues": len(issues)}
    run.log_metrics(metrics, step=len(by_fold))
    run.log_table(evaluation.by_class(), "classes")
    run.log_figure(plots.confusion_matrix(evaluation.confusion, evaluation.classes), "confusion_matrix")
    label_issues.write_csv(issues, out, earlier=splits.relabelled.file if splits.relabelled else None)
    sheet = out.with_suffix(".png")
    label_issues.draw_sheet(issues, part, splits.source.folder, sheet)
    for file in (out, sheet):
        run.log_file(file)
    rows = [{name: value for name, value in asdict(issue).items() if name != "row"} for issue in issues]
    create_table_artifact(rows[:1000], key="label-issues", description="The labels that look wrong, the worst first")
    return issues, evaluation, deviation
