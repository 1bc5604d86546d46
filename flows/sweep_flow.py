"""Search for a better config on a Dask cluster, then train the best one and let the gate decide."""

if __name__ == "__main__":  # first of all, so that the Prefect API boots while the imports below load
    from flows import command_line

    command_line.run(command_line.sweep)

from dataclasses import asdict, dataclass
from queue import SimpleQueue

import optuna
from distributed import Client
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed

from flows.cluster import cluster_client, dask
from flows.retrain_flow import Retrained, train_and_judge
from mnist_pipeline import search
from mnist_pipeline.config import DataSource, Gate, Pruner, Space
from mnist_pipeline.registry import Registry
from mnist_pipeline.search import Outcome
from mnist_pipeline.store import study_storage, tracking_uri, unfinished_folder
from mnist_pipeline.unfinished import this_process
from tasks.download import download
from tasks.notify import KEPT, notify_of_state
from tasks.split import split
from tasks.sweep import summarize
from tasks.track import end_mlflow_run, mlflow_run, sign_on, sweep_run
from tasks.trial import judging, trial
from tasks.validate import validate


@dataclass(frozen=True)
class Swept:
    """What a sweep found, and what became of it."""

    best_trial: int
    val_accuracy: float
    retrained: Retrained


@flow(
    name="sweep",
    flow_run_name="{study_name}, {trials} trials",
    task_runner=dask(),
    on_completion=[notify_of_state],
    on_failure=[end_mlflow_run, notify_of_state],
    on_crashed=[end_mlflow_run, notify_of_state],
    on_cancellation=[end_mlflow_run],
)
def sweep_flow(
    space: Space = Space(),
    source: DataSource = DataSource(),
    gate: Gate = Gate(),
    *,
    trials: int = 20,
    epochs: int = 10,
    seed: int = 0,
    pruner: Pruner = "median",
    study_name: str = "sweep",
) -> State[Swept]:
    """Try `trials` configs in all in a study, go on with it where it was begun, and give the best one to the gate."""
    sign_on()
    splits, registry = split(download(source), source), Registry(source.model_name)
    client = cluster_client()
    workers = max(1, len(client.scheduler_info()["workers"]))
    study = search.open_study(study_name, study_storage(), seed=seed, pruner=pruner, workers=workers)
    params = asdict(space) | {"trials": trials, "epochs": epochs, "seed": seed, "pruner": pruner, "workers": workers}
    with sweep_run(params, study=study_name, begun=study.user_attrs.get("mlflow_run")) as run:
        study.set_user_attr("mlflow_run", run.id)
        validate(splits, registry, run)
        data = splits.train.sha256
        try_configs(
            study, space, source, data, client, run.id, trials=trials, epochs=epochs, seed=seed, workers=workers
        )
        summarize(study, run)
    best = search.best_config(study, epochs=epochs, seed=seed)
    with mlflow_run(best, source, splits, fresh=False) as run:
        run.set_tags({"sweep": study_name, "sweep_trial": str(study.best_trial.number)})
        retrained = train_and_judge(best, splits, registry, gate, run)
    entry = retrained.entry
    swept = Swept(study.best_trial.number, study.best_value, retrained)
    return Completed(name="Promoted" if entry.promoted else KEPT, message="; ".join(entry.reasons), data=swept)


def try_configs(
    study: optuna.Study,
    space: Space,
    source: DataSource,
    data: str,
    client: Client,
    sweep: str,
    *,
    trials: int,
    epochs: int,
    seed: int,
    workers: int,
) -> None:
    """Keep every worker busy until the study has its number of `trials`."""
    asked: dict[int, optuna.Trial] = {}
    futures: dict[PrefectFuture[Outcome], int] = {}
    done: SimpleQueue[PrefectFuture[Outcome]] = SimpleQueue()
    left = trials - search.tried(study)
    process, store = this_process(unfinished_folder()), tracking_uri()
    with judging(asked, client, sweep):
        while left > 0 or futures:
            while left > 0 and len(futures) < workers:
                left -= 1
                each = study.ask()
                config = search.suggest(each, space, epochs=epochs, seed=seed)
                asked[each.number] = each
                future = trial.submit(
                    each.number, config, source, data_sha256=data, sweep=sweep, process=process, tracking_uri=store
                )
                futures[future] = each.number
                future.add_done_callback(done.put)
            future = done.get()
            search.tell(study, futures.pop(future), future.result(raise_on_failure=False))
