"""Where a search looks, and that it can be stopped and gone on with."""

from pathlib import Path

import pytest

from mnist_pipeline import search
from mnist_pipeline.config import Space, TrainConfig, space_from
from mnist_pipeline.search import Outcome

NARROW = Space(layers=(1,), units=(8, 16), batch_size=(512,))


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/optuna.db"


def run(storage: str, *, trials: int, name: str = "digits", seed: int = 0) -> list[TrainConfig]:
    """Try configs whose accuracy is their dropout."""
    study = search.open_study(name, storage, seed=seed, pruner="none", workers=1)
    configs = []
    while search.tried(study) < trials:
        trial = study.ask()
        configs.append(search.suggest(trial, NARROW, epochs=1, seed=0))
        search.tell(study, trial.number, Outcome("finished", configs[-1].dropout))
    return configs


def test_every_config_lies_in_the_space(storage: str) -> None:
    for config in run(storage, trials=20):
        assert len(config.hidden) == 1
        assert config.hidden[0] in NARROW.units
        assert config.batch_size == 512
        assert NARROW.lr[0] <= config.lr <= NARROW.lr[1]
        assert NARROW.dropout[0] <= config.dropout <= NARROW.dropout[1]


def test_the_same_seed_makes_the_same_trials(storage: str) -> None:
    first = run(storage, trials=15, name="first")
    assert first == run(storage, trials=15, name="again")
    assert first != run(storage, trials=15, name="other", seed=1)


def test_the_best_config_is_that_of_the_best_trial(storage: str) -> None:
    configs = run(storage, trials=15)
    study = search.open_study("digits", storage, seed=0, pruner="none", workers=1)
    best = search.best_config(study, epochs=1, seed=0)
    assert best.dropout == max(config.dropout for config in configs)
    assert search.table(study)[0]["val_accuracy"] == best.dropout
    shares = search.importance(study)
    assert set(shares) >= {"dropout", "lr", "units_1"}
    assert sum(shares.values()) == pytest.approx(1)


def test_a_study_is_gone_on_with_and_what_was_cut_off_is_tried_again(storage: str) -> None:
    run(storage, trials=3)
    study = search.open_study("digits", storage, seed=0, pruner="none", workers=1)
    cut_off = study.ask()
    config = search.suggest(cut_off, NARROW, epochs=1, seed=0)  # and here it was killed
    resumed = run(storage, trials=5)
    assert len(resumed) == 2
    assert resumed[0] == config


def test_a_study_that_is_there_is_only_gone_on_with_when_asked_to(storage: str) -> None:
    run(storage, trials=1)
    assert search.study_to_open("digits", storage, resume=True) == "digits"
    assert search.study_to_open(None, storage, resume=True) == "digits"
    assert search.study_to_open(None, storage, resume=False).startswith("sweep-20")
    with pytest.raises(ValueError, match="there is a study digits already: go on with it by --resume"):
        search.study_to_open("digits", storage, resume=False)
    with pytest.raises(ValueError, match="there is no study letters to go on with; known: digits"):
        search.study_to_open("letters", storage, resume=True)


def test_a_study_with_no_finished_trial_has_no_best_config(storage: str) -> None:
    study = search.open_study("digits", storage, seed=0, pruner="none", workers=1)
    with pytest.raises(ValueError, match="no trial of the study digits was finished"):
        search.best_config(study, epochs=1, seed=0)


def test_a_space_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('lr = [0.001, 0.01]\noptimizer = ["adam"]\nlayers = [2]\n')
    assert space_from(file) == Space(lr=(0.001, 0.01), optimizer=("adam",), layers=(2,))
    file.write_text("depth = [2]")
    with pytest.raises(ValueError, match=r"--space .*space.toml: .*depth.*; it may name layers, units, lr"):
        space_from(file)


@pytest.mark.parametrize(
    ("field", "value"), [("lr", (0.1, 0.01)), ("units", ()), ("layers", (-1,)), ("dropout", (0, 1))]
)
def test_a_space_that_makes_no_sense_is_refused(field: str, value: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=f"--{field} must be"):
        Space(**{field: value})  # type: ignore[arg-type]
