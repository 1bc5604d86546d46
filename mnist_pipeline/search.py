"""The search for a better config, by Optuna."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import optuna
from optuna.importance import get_param_importances
from optuna.trial import TrialState

from mnist_pipeline.config import Pruner, Space, TrainConfig

State = Literal["finished", "pruned"]

STATES: dict[State, TrialState] = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
}


@dataclass(frozen=True)
class Outcome:
    """What became of a trial."""

    state: State
    accuracy: float  # on the validation part, after the last epoch that it got to


def study_to_open(name: str | None, storage: str, *, resume: bool) -> str:
    """Choose a study: a new one by the time, the latest to `resume`, or the one of that `name`.

    Raises `ValueError` where there is none to go on with, or one of that name is there and is not to be gone on with.
    """
    known = [study.study_name for study in optuna.get_all_study_summaries(storage)]
    if resume and not (name in known if name else known):
        raise ValueError(f"there is no study {name or ''} to go on with; known: {', '.join(known) or 'none'}")
    if name in known and not resume:
        raise ValueError(f"there is a study {name} already: go on with it by --resume, or name another")
    return name or (known[-1] if resume else datetime.now().strftime("sweep-%Y-%m-%d-%H%M%S"))


def open_study(name: str, storage: str, *, seed: int, pruner: Pruner, workers: int) -> optuna.Study:
    """Open the study `name`, or begin it; what was cut off in it is queued to be tried again, what is done stays done.

    Its sampler is TPE (Bergstra et al., 2011), seeded: with one worker, the same seed makes the same trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        load_if_exists=True,
        # Each trial that is still running counts as a bad one, so that several workers do not look in the same place.
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=workers > 1),
        pruner=PRUNERS[pruner],
    )
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, skip_if_exists=True)
    return study


PRUNERS: dict[Pruner, optuna.pruners.BasePruner] = {
    "median": optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    "halving": optuna.pruners.SuccessiveHalvingPruner(),
    "none": optuna.pruners.NopPruner(),
}


def suggest(trial: optuna.Trial, space: Space, *, epochs: int, seed: int) -> TrainConfig:
    """Draw a config from `space`."""
    layers = trial.suggest_categorical("layers", space.layers)
    for layer in range(1, layers + 1):
        trial.suggest_categorical(f"units_{layer}", space.units)
    trial.suggest_float("lr", *space.lr, log=True)
    trial.suggest_categorical("schedule", space.schedule)
    trial.suggest_categorical("batch_size", space.batch_size)
    trial.suggest_float("dropout", *space.dropout)
    trial.suggest_categorical("batch_norm", space.batch_norm)
    trial.suggest_categorical("optimizer", space.optimizer)
    trial.suggest_float("distortion", *space.distortion)
    return config_of(trial.params, epochs=epochs, seed=seed)


def config_of(params: Mapping[str, Any], *, epochs: int, seed: int) -> TrainConfig:
    """Make the config of a trial from what was drawn for it."""
    fields = dict(params)
    hidden = tuple(fields.pop(f"units_{layer}") for layer in range(1, fields.pop("layers") + 1))
    batch_norm = fields.pop("batch_norm") == "on"
    return TrainConfig(hidden=hidden, batch_norm=batch_norm, epochs=epochs, seed=seed, threads=1, **fields)


def importance(study: optuna.Study) -> dict[str, float]:
    """Give the share of each parameter in what makes the trials differ, the largest first.

    Empty where too few trials are finished to say.
    """
    finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len({trial.value for trial in finished}) < 2:
        return {}
    return get_param_importances(study)


def table(study: optuna.Study) -> list[dict[str, object]]:
    """Give a row for each trial, the best first."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "val_accuracy": trial.value
            if trial.value is not None
            else max(trial.intermediate_values.values(), default=0.0),
            "epochs": len(trial.intermediate_values),
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    return sorted(rows, key=lambda row: -float(str(row["val_accuracy"])))


def varied(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Name the parameters of which the trials had more than one value."""
    names = sorted({name for row in rows for name in row} - {"trial", "state", "val_accuracy", "epochs"})
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def tried(study: optuna.Study) -> int:
    """Count the trials that need not be tried again."""
    return len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))


def tell(study: optuna.Study, number: int, outcome: object) -> None:
    """Tell the study what became of a trial; anything but an `Outcome` means that it failed."""
    if isinstance(outcome, Outcome):
        study.tell(number, outcome.accuracy if outcome.state == "finished" else None, STATES[outcome.state])
    else:
        study.tell(number, state=TrialState.FAIL)


def best_config(study: optuna.Study, *, epochs: int, seed: int) -> TrainConfig:
    """Give the config of the best finished trial; raises `ValueError` where none was finished."""
    if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        raise ValueError(f"no trial of the study {study.study_name} was finished: see its runs in MLflow for why")
    return replace(config_of(study.best_trial.params, epochs=epochs, seed=seed), threads=0)
