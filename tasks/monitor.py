"""The tasks that watch what was served: read, judged, drawn and recorded."""

from datetime import UTC, datetime

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from mnist_pipeline.data import drift
from mnist_pipeline.monitoring import review, verdict
from mnist_pipeline.monitoring.fetch import existing_log
from mnist_pipeline.monitoring.options import Watch, check_disjoint
from mnist_pipeline.monitoring.served import Served
from mnist_pipeline.monitoring.verdict import Reference, Watched
from mnist_pipeline.text import duration
from mnist_pipeline.tracking import versions
from mnist_pipeline.tracking.logged import load_profile, load_table, load_text
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.runs import Run
from mnist_pipeline.training import plots
from mnist_pipeline.training.loop import torch_threads

LATEST = 20  # versions looked at: what one learnt from that was rejected or rolled back is not tried again


@task(name="read logs", task_run_name="read-logs", cache_policy=NO_CACHE)
def read_logs(watch: Watch, model: str, version: int) -> tuple[list[Served], list[Served]]:
    """Return what `version` of `model` answered lately, and all corrections of that model's answers.

    An answer from before the version was made is that of another one, whose number it took after the model was deleted.
    """
    since = max(datetime.now(UTC) - duration(watch.since), versions.state(Registry(model), version).created)
    answers: list[Served] = []
    corrections: list[Served] = []
    ids: dict[str, set[str]] = {}
    for place in watch.log:
        with existing_log(place) as log:
            answered = [each for each in log.since(since, model=model) if each.version == version]
            corrected = [each for each in log.corrections() if each.model == model]
        ids[place] = {each.id for each in (*answered, *corrected)}
        answers += answered
        corrections += corrected
    check_disjoint(ids)
    return answers, corrections


@task(name="watch", task_run_name="watch", cache_policy=NO_CACHE)
def watch_answers(
    answers: list[Served], corrections: list[Served], registry: Registry, version: int, watch: Watch, run: Run
) -> Watched:
    """Judge the answers, and record what was found on the run and on the flow run's page."""
    made_by = registry.run_of(version) or "none"
    tried = versions.runs_not_kept(registry, LATEST)
    reference = Reference(
        version=version,
        profile=load_profile(made_by),
        coverage=load_table(made_by, "coverage"),
        learnt=frozenset().union(*(review.learnt(load_text(each, review.TABLE)) for each in tried | {made_by})),
    )
    with torch_threads(1):  # more hurt on a busy machine
        watched = verdict.watch(answers, corrections, reference, watch)
    run.log_metrics(watched.metrics, step=0)
    run.log_table(watched.rows, "monitoring")
    run.set_tags({"verdict": watched.verdict, "mlflow.note.content": watched.message})
    if watched.indices:
        by_chance = [row["statistic"] for row in watched.rows if row["verdict"] == drift.MAY_BE_CHANCE]
        figure = plots.monitoring(watched.distributions, watched.indices, (drift.MODERATE, drift.LARGE), by_chance)
        run.log_figure(figure, "monitoring")
    create_table_artifact(watched.rows, key="monitoring", description=watched.message)
    return watched
