"""Where a search looks, and how it is interrupted and resumed."""

from pathlib import Path

import pytest

from mnist_pipeline.config import FieldError, Search, TrainConfig
from mnist_pipeline.space import Space, space_from
from mnist_pipeline.training.search import (
    Outcome,
    adapt_space,
    best_config,
    count_done,
    importance,
    open_study,
    progress,
    scope,
    study_to_open,
    suggest,
    table,
    tell,
    varying_parameters,
)

NARROW = Space(layers=(1,), units=(8, 16), batch_size=(512,))
SEARCH = Search(trials=12, epochs=2, pruner="none")  # the first ten are random
SCOPE = scope(SEARCH, NARROW, dataset="digits", data_sha256="d" * 64)


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/optuna.db"


def run(storage: str, search: Search = SEARCH, name: str = "digits") -> list[TrainConfig]:
    """Search among configs whose accuracy is their dropout; return those that were tried."""
    study = open_study(name, storage, search, SCOPE, workers=1)
    configs = []
    while count_done(study) < search.trials:
        trial = study.ask()
        configs.append(suggest(trial, NARROW, search))
        tell(study, trial.number, Outcome(configs[-1].dropout))
    return configs


def test_every_config_lies_in_the_space(storage: str) -> None:
    for config in run(storage):
        assert len(config.hidden) == 1
        assert config.hidden[0] in NARROW.units
        assert config.batch_size == 512
        assert NARROW.lr[0] <= config.lr <= NARROW.lr[1]
        assert NARROW.dropout[0] <= config.dropout <= NARROW.dropout[1]
        assert all(value == float(f"{value:.4g}") for value in (config.lr, config.dropout))  # as people would type it
        assert (config.epochs, config.threads) == (2, 1)


def test_the_same_seed_makes_the_same_trials(storage: str) -> None:
    first = run(storage)
    assert first == run(storage, name="again")
    assert first != run(storage, Search(trials=12, epochs=2, pruner="none", seed=1), name="other")


def test_each_trial_is_reported_with_its_score_and_the_best_so_far(storage: str) -> None:
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    outcomes = (Outcome(0.5), Outcome(0.25), FloatingPointError("the loss became nan\n…"))
    for outcome in outcomes:
        tell(study, study.ask().number, outcome)
    assert [progress(study, number, outcome) for number, outcome in enumerate(outcomes)] == [
        "Trial 0 complete, 50.00 % on the validation part; the best is trial 0, 50.00 %",
        "Trial 1 complete, 25.00 % on the validation part; the best is trial 0, 50.00 %",
        "Trial 2 fail: the loss became nan; the best is trial 0, 50.00 %",
    ]


@pytest.mark.parametrize(("images", "sizes"), [(38_400, (64, 128, 256, 512)), (2000, (64,)), (23, (8,)), (5, (5,))])
def test_batches_that_are_too_large_for_small_data_are_tried_only_if_they_were_given(
    images: int, sizes: tuple[int, ...]
) -> None:
    assert adapt_space(Space(), images=images).batch_size == sizes
    given = Space(batch_size=(16, 512))
    assert adapt_space(given, images=images) == given


def test_the_best_config_is_that_of_the_best_trial(storage: str) -> None:
    configs = run(storage)
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    best = best_config(study, SEARCH)
    assert best.dropout == max(config.dropout for config in configs)
    assert best.threads == 0
    assert table(study)[0]["val_accuracy"] == best.dropout


def test_parameters_that_vary_are_listed_and_have_an_importance(storage: str) -> None:
    run(storage)
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    assert {"dropout", "lr", "units_1"} <= set(varying_parameters(study)) <= set(importance(study))
    assert not {"layers", "batch_size"} & set(varying_parameters(study))
    assert sum(importance(study).values()) == pytest.approx(1)


def test_no_parameter_of_a_single_trial_varies_or_has_an_importance(storage: str) -> None:
    run(storage, Search(trials=1))
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    assert importance(study) == {}
    assert varying_parameters(study) == []


def test_the_table_shows_finished_pruned_and_failed_trials_the_best_first(storage: str) -> None:
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    for outcome, reported in ((RuntimeError("killed"), 0.5), (Outcome(0.6, pruned=True), 0.6), (Outcome(0.9), 0.8)):
        trial = study.ask()
        suggest(trial, NARROW, SEARCH)
        trial.report(reported, step=1)
        tell(study, trial.number, outcome)
    rows = [(row["state"], row["val_accuracy"], row["epochs"]) for row in table(study)]
    assert rows == [("complete", 0.9, 2), ("pruned", 0.6, 1), ("fail", None, 1)]
    assert count_done(study) == 2


def test_a_trial_that_another_machine_has_taken_for_interrupted_stays_so(storage: str) -> None:
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    trial = study.ask()
    open_study("digits", storage, SEARCH, SCOPE, workers=1)
    tell(study, trial.number, Outcome(0.9))
    assert progress(study, trial.number, Outcome(0.9)) == "Trial 0 fail"


def test_a_resumed_study_first_repeats_the_interrupted_trial_and_no_other(storage: str) -> None:
    before = run(storage, Search(trials=3))
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    interrupted = suggest(study.ask(), NARROW, Search(trials=5))
    resumed = run(storage, Search(trials=5))
    assert len(resumed) == 2
    assert resumed[0] == interrupted
    assert len({config.lr for config in before + resumed}) == 5


def test_a_study_is_resumed_by_its_name_or_as_the_latest(storage: str) -> None:
    run(storage, Search(trials=1), name="letters")
    run(storage, Search(trials=1), name="digits")
    assert study_to_open("letters", storage, resume=True, dataset="digits") == "letters"
    assert study_to_open(None, storage, resume=True, dataset="digits") == "digits"


def test_the_latest_study_is_one_of_the_same_dataset(storage: str) -> None:
    for dataset in ("digits", "letters"):
        other = scope(SEARCH, NARROW, dataset=dataset, data_sha256="d" * 64)
        open_study(f"of {dataset}", storage, SEARCH, other, workers=1)
        assert study_to_open(None, storage, resume=True, dataset=dataset) == f"of {dataset}"
    assert study_to_open(None, storage, resume=True, dataset="digits") == "of digits"
    with pytest.raises(FieldError, match="resume needs a study of mnist, and there is none yet"):
        study_to_open(None, storage, resume=True, dataset="mnist")


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (scope(SEARCH, NARROW, dataset="letters", data_sha256="d" * 64), "dataset digits, not dataset letters"),
        (scope(SEARCH, NARROW, dataset="digits", data_sha256="e" * 64), "data_sha256 d{12}, not data_sha256 e{12}"),
        (scope(Search(epochs=3), NARROW, dataset="digits", data_sha256="d" * 64), "epochs 2, not epochs 3"),
        (scope(SEARCH, Space(), dataset="digits", data_sha256="d" * 64), r"layers \[1\], units \[8, 16\], batch_size"),
    ],
    ids=["dataset", "data", "epochs", "space"],
)
def test_a_study_is_not_resumed_as_another_search(storage: str, other: dict[str, object], difference: str) -> None:
    open_study("digits", storage, SEARCH, SCOPE, workers=1).ask()
    with pytest.raises(FieldError, match=f"study digits is a search over {difference}"):
        open_study("digits", storage, SEARCH, other, workers=1)
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    assert len(study.trials) == 2  # the interrupted one, and its repetition


def test_a_new_study_may_have_a_name(storage: str) -> None:
    assert study_to_open("digits", storage, resume=False, dataset="digits") == "digits"
    first, second = (study_to_open(None, storage, resume=False, dataset="digits") for _ in range(2))
    assert first.startswith("sweep-20")
    assert first != second, "two sweeps that begin in the same second would be one study"


def test_a_study_that_does_not_exist_cannot_be_resumed(storage: str) -> None:
    with pytest.raises(FieldError, match="resume needs a study of digits, and there is none yet"):
        study_to_open(None, storage, resume=True, dataset="digits")
    run(storage, Search(trials=1))
    with pytest.raises(FieldError, match="study letters does not exist, so it cannot be resumed; known: digits"):
        study_to_open("letters", storage, resume=True, dataset="digits")


def test_an_existing_study_is_not_resumed_by_accident(storage: str) -> None:
    run(storage, Search(trials=1))
    with pytest.raises(FieldError, match="study digits already exists: resume it, or choose another name"):
        study_to_open("digits", storage, resume=False, dataset="digits")


def test_a_study_without_a_finished_trial_has_no_best_config(storage: str) -> None:
    study = open_study("digits", storage, SEARCH, SCOPE, workers=1)
    with pytest.raises(ValueError, match="no trial of the study digits has finished"):
        best_config(study, SEARCH)


def test_a_space_is_read_from_a_toml_file(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('lr = [0.001, 0.01]\noptimizer = ["adam"]\nlayers = [2]\n')
    assert space_from(file) == Space(lr=(0.001, 0.01), optimizer=("adam",), layers=(2,))


def test_a_space_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"^space must be a TOML file: .*/none.toml: No such file or directory$"):
        space_from(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("depth = [2]", "depth: Unexpected keyword argument"),
        ('schedule = "one-cycle"', "schedule: Input should be a valid array"),
        ('optimizer = ["adam", "adem"]', "optimizer: Input should be 'sgd', 'momentum'"),
        ("batch_norm = [true, false]", "batch_norm: Input should be 'off' or 'on'"),
        ("layers = [1.5]", "layers: Input should be a valid integer"),
        ("lr = [0.1, 0.01]", "lr must be the lowest value, then the highest"),
        ("dropout = [0, nan]", "dropout must be"),
        ("layers = 2024-02-30", "Invalid date"),
        ("layers = 2024-02-20", "date is not JSON"),
    ],
)
def test_a_file_that_is_no_space_is_refused_with_the_value_that_is_wrong(
    text: str, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(
        FieldError, match=r"^space .*space.toml: .*; it may name layers, units, lr, .* each a list$"
    ) as caught:
        space_from(file)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"), [("lr", (0.1, 0.01)), ("units", ()), ("layers", (-1,)), ("dropout", (0, 1))]
)
def test_a_space_that_makes_no_sense_is_refused(field: str, value: tuple[float, ...]) -> None:
    with pytest.raises(FieldError, match=f"{field} must be"):
        Space(**{field: value})  # type: ignore[arg-type]
