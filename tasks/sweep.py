"""What a sweep shows of its trials."""

import optuna
from prefect import task
from prefect.cache_policies import NO_CACHE

from mnist_pipeline import plots, search
from mnist_pipeline.tracking import Run
from tasks.report import report_trials


@task(name="summarize", task_run_name="summarize", cache_policy=NO_CACHE)
def summarize(study: optuna.Study, run: Run) -> None:
    """Log the trials as a table, and what decided about them as figures; the best accuracy as a metric."""
    rows = search.table(study)
    run.log_table(rows, "trials")
    report_trials(rows)
    finished = [row for row in rows if row["state"] == "complete"]
    run.log_metrics({"best_val_accuracy": study.best_value, "trials_finished": len(finished)}, step=len(rows))
    run.log_figure(plots.slices(finished, search.varied(finished)), "slices")
    if shares := search.importance(study):
        run.log_figure(plots.importance(shares), "importance")
