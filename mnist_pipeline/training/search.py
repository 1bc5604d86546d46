"""The search for a better config, by Optuna."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnist_pipeline.config import FieldError, Pruner, Search, TrainConfig
from mnist_pipeline.space import Space
from mnist_pipeline.text import percent
from mnist_pipeline.training.loop import largest_batch

PRUNERS: dict[Pruner, optuna.pruners.BasePruner] = {
    "median": optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    "halving": optuna.pruners.SuccessiveHalvingPruner(),
    "none": optuna.pruners.NopPruner(),
}
MIN_FOR_IMPORTANCE = 10  # finished trials, of which a tenth is one


@dataclass(frozen=True)
class Outcome:
    """What a trial returns."""

    accuracy: float  # on the validation part, after the trial's last epoch
    pruned: bool = False


def adapt_space(space: Space, *, images: int) -> Space:
    """Return `space` with batches that fit a training part of so many `images`, if they are the default ones."""
    if space.batch_size != Space.batch_size:
        return space
    return replace(space, batch_size=tuple(sorted({min(size, largest_batch(images)) for size in space.batch_size})))


def study_to_open(name: str | None, storage: str, *, resume: bool, dataset: str) -> str:
    """Return the study to open: `name`, else the `dataset`'s latest one to `resume`, else a new name with the time.

    Raises `FieldError` if the study to resume does not exist, or if a study that is not to be resumed does.
    """
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)  # the oldest first
    known = [study.study_name for study in summaries]
    if not resume:
        if name in known:
            raise FieldError("study", f"{name} already exists: resume it, or choose another name")
        return name or datetime.now().strftime("sweep-%Y-%m-%d-%H%M%S-%f")
    if name and name not in known:
        raise FieldError(
            "study", f"{name} does not exist, so it cannot be resumed; known: {', '.join(known) or 'none'}"
        )
    same = [
        study.study_name
        for study in summaries
        if study.user_attrs.get("scope", {}).get("dataset", dataset) == dataset  # version 0.1's does not say
    ]
    if not name and not same:
        raise FieldError("resume", f"needs a study of {dataset}, and there is none yet")
    return name or same[-1]


def scope(search: Search, space: Space, *, dataset: str, data_sha256: str) -> dict[str, object]:
    """Return what the trials of a study must have in common: their scores cannot be compared otherwise."""
    return {"dataset": dataset, "data_sha256": data_sha256[:12], "epochs": search.epochs, **asdict(space)}


def open_study(name: str, storage: str, search: Search, scope: Mapping[str, object], *, workers: int) -> optuna.Study:
    """Create the study, or load it and queue the trials that were interrupted.

    With one worker, the same seed makes the same trials if the study is not interrupted. Raises `FieldError` if the
    study has another `scope`; one of version 0.1 has none yet.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        pruner=PRUNERS[search.pruner],
        load_if_exists=True,
    )
    now = json.loads(json.dumps(scope))  # with lists for tuples, as the study returns it
    before = study.user_attrs.get("scope", now)
    if changed := [key for key in now if before.get(key) != now[key]]:
        was, given = (", ".join(f"{key} {each.get(key)}" for key in changed) for each in (before, now))
        raise FieldError("study", f"{name} is a search over {was}, not {given}: resume it with those, or start another")
    study.set_user_attr("scope", now)
    trials = study.get_trials(deepcopy=False)
    study.sampler = optuna.samplers.TPESampler(
        seed=search.seed + len(trials),  # with the same seed, a resumed study would repeat its first trials
        constant_liar=workers > 1,  # take running trials for bad ones, so that workers do not all look in one place
    )
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return study


def suggest(trial: optuna.Trial, space: Space, search: Search) -> TrainConfig:
    """Return a config sampled from `space`."""
    layers = trial.suggest_categorical("layers", space.layers)
    for layer in range(1, layers + 1):
        trial.suggest_categorical(f"units_{layer}", space.units)
    trial.suggest_float("lr", *space.lr, log=True)
    trial.suggest_categorical("schedule", space.schedule)
    trial.suggest_categorical("batch_size", space.batch_size)
    trial.suggest_float("dropout", *space.dropout)
    trial.suggest_categorical("batch_norm", space.batch_norm)
    trial.suggest_categorical("optimizer", space.optimizer)
    trial.suggest_float("augmentation", *space.augmentation)
    return config_of(trial.params, search)


def config_of(params: Mapping[str, Any], search: Search) -> TrainConfig:
    """Return the config of a trial with these parameters, to four digits; one thread, as each core has its worker."""
    renamed = {"distortion": "augmentation"}  # since version 0.1
    fields: dict[str, Any] = {
        renamed.get(name, name): float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in params.items()
    }
    hidden = tuple(fields.pop(f"units_{layer}") for layer in range(1, fields.pop("layers") + 1))
    batch_norm = fields.pop("batch_norm") == "on"
    return TrainConfig(
        hidden=hidden, batch_norm=batch_norm, epochs=search.epochs, seed=search.seed, threads=1, **fields
    )


def tell(study: optuna.Study, number: int, outcome: object) -> None:
    """Record in the study how a trial ended; anything but an `Outcome` means that it failed.

    One that another machine, which resumed the study meanwhile, has taken for interrupted stays so.
    """
    if not isinstance(outcome, Outcome):
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    elif outcome.pruned:  # its value is the last accuracy that was reported
        study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
    else:
        study.tell(number, outcome.accuracy, skip_if_finished=True)


def progress(study: optuna.Study, number: int, outcome: object) -> str:
    """Return how a trial ended, why if it failed, and which is the best so far."""
    trial = study.get_trials(deepcopy=False)[number]
    score = "" if trial.value is None else f", {percent(trial.value)} on the validation part"
    if isinstance(outcome, BaseException):
        score = f": {(str(outcome).splitlines() or [type(outcome).__name__])[0]}"
    best = f"; the best is trial {study.best_trial.number}, {percent(study.best_value)}" if _finished(study) else ""
    return f"Trial {number} {trial.state.name.lower()}{score}{best}"


def count_done(study: optuna.Study) -> int:
    """Return the number of trials that are finished or pruned, and need not be run again."""
    return len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))


def best_config(study: optuna.Study, search: Search) -> TrainConfig:
    """Return the config of the best finished trial, to be trained alone. Raises `ValueError` if none has finished."""
    if not _finished(study):
        raise ValueError(f"no trial of the study {study.study_name} has finished: the tag error of their runs says why")
    return replace(config_of(study.best_params, search), threads=0)


def table(study: optuna.Study) -> list[dict[str, Any]]:
    """Return a row for each trial, the best first."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "val_accuracy": trial.value,  # none if it failed
            "epochs": len(trial.intermediate_values) + (trial.state == TrialState.COMPLETE),  # its last is not reported
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    return sorted(rows, key=lambda row: row["val_accuracy"] or 0.0, reverse=True)


def varying_parameters(study: optuna.Study) -> list[str]:
    """Return the parameters that the finished trials do not all have the same value of."""
    params = [trial.params for trial in _finished(study)]
    names = sorted({name for each in params for name in each})
    return [name for name in names if len({each.get(name) for each in params}) > 1]


def importance(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each parameter for being among the best tenth of the trials, the largest first.

    They sum to 1. Empty if fewer than ten trials are finished, or all are equally good.
    """
    values = [trial.value for trial in _finished(study)]
    if len(values) < MIN_FOR_IMPORTANCE or len({*values}) < 2:
        return {}
    return optuna.importance.get_param_importances(study)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
