"""The task that summarizes a sweep."""

import optuna
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training import plots, search


@task(name="summarize", task_run_name="summarize", cache_policy=NO_CACHE)
def summarize(study: optuna.Study, run: Run) -> None:
    """Log the trials as a table, what made them differ as figures, and the best accuracy as a metric."""
    rows = search.table(study)
    run.log_table(rows, "trials")
    create_table_artifact(rows, key="trials", description="The trials, the best first")
    finished = [row for row in rows if row["state"] == "complete"]
    if not finished:
        return
    run.log_metrics({"best_val_accuracy": study.best_value, "trials_finished": len(finished)}, step=len(rows))
    run.log_figure(plots.slices(finished, search.varying_parameters(study)), "slices")
    if shares := search.importance(study):
        run.log_figure(plots.importance(shares), "importance")
