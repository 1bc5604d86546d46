"""Search for a better config on a Dask cluster, then train the best one and let the gate decide."""

from flows import startup

if __name__ == "__main__":  # before the other imports: a signal or a bad option ends it at once, and the API boots
    startup.begin()
    from flows import cli

    options = cli.start(cli.sweep)

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue

import optuna
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from flows.cluster import cluster_client, task_runner
from flows.retrain_flow import Retrained, final_state, train_and_decide, with_floor
from mnist_pipeline.config import FieldError, Gate, Search, TrainConfig
from mnist_pipeline.data.mnist import import_readers
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.space import Space, space_from
from mnist_pipeline.text import counted, percent
from mnist_pipeline.tracking.processes import process_id, try_lock
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.store import as_store_errors, in_progress_folder, study_storage, tracking_uri
from mnist_pipeline.training import search as optuna_search
from mnist_pipeline.training.loop import check_trainable
from mnist_pipeline.training.search import Outcome
from tasks.download import download
from tasks.gate import check_champion
from tasks.notify import notify_of_state
from tasks.split import split
from tasks.sweep import summarize
from tasks.track import mlflow_run, parent_run, reconcile_runs
from tasks.trial import answer_pruning_questions, trial
from tasks.validate import validate


@dataclass(frozen=True)
class Swept:
    """The result of a sweep, and what became of its best config."""

    best_trial: int
    val_accuracy: float
    config: TrainConfig
    retrained: Retrained


@flow(
    name="sweep",
    flow_run_name="{search.study}, {search.trials} trials",
    task_runner=task_runner(),
    on_completion=[notify_of_state],
    on_failure=[notify_of_state],
    on_crashed=[notify_of_state],
    log_prints=True,
)
def sweep_flow(
    search: Search = Search(),
    space: Space = Space(),
    source: DataSource = DataSource(),
    gate: Gate = Gate(),
) -> State[Swept]:
    """Try configs until the study has as many as `search` asks for, train the best one and let the gate decide."""
    reconcile_runs()
    study = search.study or "sweep"
    with only_sweep_of(study):
        swept = search_and_train(study, search, space, source, gate)
    return final_state(swept.retrained.entry, swept)


@contextlib.contextmanager
def only_sweep_of(study: str) -> Iterator[None]:
    """Keep this machine's other sweeps away from `study` within the block. Raises `FieldError` if one searches it."""
    digest = hashlib.sha256(study.encode()).hexdigest()[:16]  # a name may have any letters
    with try_lock(in_progress_folder(), f"study-{digest}") as is_free:
        if not is_free:
            raise FieldError(
                "study", f"{study} is being searched by another sweep: stop that first, or wait for it to end"
            )
        yield


def search_and_train(name: str, search: Search, space: Space, source: DataSource, gate: Gate) -> Swept:
    """Search until the study `name` has all of its trials, then train the best config and let the gate decide."""
    splits = split(download(source), source)
    images = len(splits.train) * 4 // 5  # a validation fifth is cut off
    space = optuna_search.adapt_space(space, images=images)
    largest = TrainConfig(batch_size=max(space.batch_size), hidden=(max(space.units),) * max(space.layers))
    check_trainable(largest, splits.schema, images=images)
    check_champion(Registry(source.model_name))
    client = cluster_client()
    workers = max(1, len(client.scheduler_info()["workers"]))
    scope = optuna_search.scope(search, space, dataset=source.name, data_sha256=splits.train.sha256)
    with as_store_errors(study_storage()):
        study = optuna_search.open_study(name, study_storage(), search, scope, workers=workers)
    run_id = study.user_attrs.get("mlflow_run")
    params = scope | {"seed": search.seed, "pruner": search.pruner}
    with parent_run(params, name=name, experiment=source.name, run_id=run_id, study=name) as run:
        study.set_user_attr("mlflow_run", run.id)
        validate(splits, run)
        submit = partial(
            trial.submit,
            source=source,
            data_sha256=splits.train.sha256,
            sweep=run.id,
            process=process_id(in_progress_folder()),
            tracking_uri=tracking_uri(),
        )
        trials: dict[int, optuna.Trial] = {}
        with answer_pruning_questions(trials, client, run.id):
            try_configs(study, space, search, submit, trials, workers=workers)
        summarize(study, run)
    best = optuna_search.best_config(study, search)
    with mlflow_run(best, splits, fresh=False) as run:
        run.set_tags({"sweep": name, "sweep_trial": str(study.best_trial.number)})
        retrained = train_and_decide(best, splits, with_floor(gate, source), run)
    return Swept(study.best_trial.number, study.best_value, best, retrained)


def try_configs(
    study: optuna.Study,
    space: Space,
    search: Search,
    submit: Callable[..., PrefectFuture[Outcome]],
    trials: dict[int, optuna.Trial],
    *,
    workers: int,
) -> None:
    """Keep every worker busy until the study has its number of trials; add each to `trials` before it starts."""
    futures: dict[PrefectFuture[Outcome], int] = {}
    done: SimpleQueue[PrefectFuture[Outcome]] = SimpleQueue()
    left = max(0, search.trials - optuna_search.count_done(study))
    print(f"{counted(left, 'trial')} to run, {workers} at a time")
    while left or futures:
        while left and len(futures) < workers:
            left -= 1
            each = study.ask()
            config = optuna_search.suggest(each, space, search)
            trials[each.number] = each
            future = submit(each.number, config)
            futures[future] = each.number
            future.add_done_callback(done.put)
        future = done.get()
        number, outcome = futures.pop(future), future.result(raise_on_failure=False)
        optuna_search.tell(study, number, outcome)
        print(optuna_search.progress(study, number, outcome))


if __name__ == "__main__":
    import_readers()
    search, space_file = options["search"], options.pop("space_file")
    if space_file:
        options["space"] = space_from(space_file)
    with startup.command():
        with as_store_errors(study_storage()):
            dataset = options["source"].name
            name = optuna_search.study_to_open(search.study, study_storage(), resume=search.resume, dataset=dataset)
        options["search"] = replace(search, study=name)
        state = sweep_flow.with_options(task_runner=task_runner(search))(**options, return_state=True)
        swept: Swept = state.result()  # type: ignore[assignment]  # a flow that returns a state is typed as if it did not
    print(f"\nBest trial        {swept.best_trial} of {name}, {percent(swept.val_accuracy)} on the validation part")
    print(f"Best config       {' '.join(cli.options_of(swept.config))}")
    print(f"{state.message}\n{swept.retrained.trained}")
