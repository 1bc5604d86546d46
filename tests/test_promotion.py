"""What the gate lets through, on made-up predictions, and why it keeps the rest."""

import math

import numpy as np
import pytest
import torch

from mnist_pipeline.config import Gate
from mnist_pipeline.evaluation import Evaluation, evaluate
from mnist_pipeline.promotion import RELOAD_TOLERANCE, Decision, decide, largest_loss, mcnemar

LABELS = torch.arange(10_000) % 10
GATE = Gate()


def predictions(*, wrong: range, confidence: float = 0.99) -> Evaluation:
    """What a model is scored at that gets the images `wrong` for the next class, and all others right."""
    predicted = LABELS.clone()
    rows = list(wrong)
    predicted[rows] = (LABELS[rows] + 1) % 10
    probabilities = torch.full((len(LABELS), 10), (1 - confidence) / 9)
    probabilities[torch.arange(len(LABELS)), predicted] = confidence
    return evaluate(probabilities, LABELS)


CHAMPION = predictions(wrong=range(200))  # 98 %


def judge(challenger: Evaluation, champion: Evaluation | None = CHAMPION, *, reload_gap: float = 0.0) -> Decision:
    return decide(challenger, champion, LABELS, GATE, reload_gap=reload_gap)


def failed(decision: Decision) -> list[str]:
    return [check.name for check in decision.checks if not check.passed]


def test_a_better_challenger_is_promoted_and_so_is_the_champion_itself() -> None:
    assert judge(predictions(wrong=range(150))).promoted
    assert judge(CHAMPION).promoted


def test_an_equal_one_that_is_wrong_elsewhere_is_promoted() -> None:
    decision = judge(predictions(wrong=range(50, 250)))
    assert decision.promoted
    assert (decision.numbers["won"], decision.numbers["lost"]) == (50, 50)


def test_the_floor_holds_whatever_the_champion_does() -> None:
    decision = judge(predictions(wrong=range(301)), predictions(wrong=range(400)))
    assert failed(decision) == ["floor"]
    assert decision.reasons == ("accuracy 96.99%, at least 97.00% is asked for",)
    assert judge(predictions(wrong=range(300)), predictions(wrong=range(400))).promoted


def test_a_significantly_worse_one_is_kept_back() -> None:
    decision = judge(predictions(wrong=range(230)))  # 30 images lost, none won
    assert failed(decision) == ["significance"]
    assert decision.reasons == ("it wins 0 images and loses 30 (McNemar's p 9.3e-10, at least 0.05)",)


def test_one_whose_loss_may_be_too_large_is_kept_back_though_not_significantly_worse() -> None:
    decision = judge(predictions(wrong=range(180, 400)))  # 180 won, 200 lost
    assert failed(decision) == ["margin"]
    assert decision.reasons == ("its accuracy may be 0.53% lower than the champion's, 0.50% would be bearable",)


def test_no_class_may_fall_far_even_if_all_together_do_not() -> None:
    wrong = predictions(wrong=range(0))
    probabilities = wrong.probabilities.clone()
    sevens = torch.where(LABELS == 7)[0][:41]  # where the champion is wrong in 20 of them
    probabilities[sevens] = probabilities[sevens].roll(1, dims=1)
    decision = judge(evaluate(probabilities, LABELS))
    assert failed(decision) == ["recall"]
    assert "(class 7)" in decision.reasons[0]


def test_a_wrecked_calibration_is_kept_back() -> None:
    decision = judge(predictions(wrong=range(190), confidence=0.9))
    assert failed(decision) == ["calibration"]
    assert decision.reasons == ("calibration error 0.0810, 0.0300 is allowed",)


@pytest.mark.parametrize("gap", [1e-3, math.inf, math.nan])
def test_one_that_does_not_reload_is_kept_back(gap: float) -> None:
    assert failed(judge(predictions(wrong=range(100)), reload_gap=gap)) == ["reload"]
    assert failed(judge(predictions(wrong=range(100)), None, reload_gap=gap)) == ["reload"]


@pytest.mark.parametrize(
    ("gap", "reason"),
    [
        (math.inf, "it cannot be loaded in another process"),
        (1e-3, "reloaded elsewhere, its probabilities differ by 1.0e-03, 1e-05 is allowed"),
    ],
)
def test_why_it_does_not_reload_is_told(gap: float, reason: str) -> None:
    assert judge(CHAMPION, reload_gap=gap).reasons == (reason,)


def test_the_first_version_needs_only_the_floor_and_the_reload() -> None:
    decision = judge(predictions(wrong=range(300), confidence=0.6), None)
    assert decision.promoted
    assert [check.name for check in decision.checks] == ["floor", "reload"]
    assert failed(judge(predictions(wrong=range(301)), None)) == ["floor"]
    assert decision.numbers == {"accuracy": 0.97, "reload_gap": 0.0}


def test_all_that_was_compared_is_logged_by_name() -> None:
    numbers = judge(predictions(wrong=range(10, 205))).numbers
    names = ["accuracy", "reload_gap", "champion_accuracy", "won", "lost", "p_value", "largest_loss", "recall_fall"]
    assert [*numbers] == [*names, "calibration_error", "champion_calibration_error"]
    assert (numbers["accuracy"], numbers["champion_accuracy"], numbers["won"], numbers["lost"]) == (0.9805, 0.98, 10, 5)


def test_what_just_meets_a_limit_passes() -> None:
    none_at_all = Gate(floor=0.98, margin=0, recall_margin=0, calibration_margin=0)
    assert decide(CHAMPION, CHAMPION, LABELS, none_at_all, reload_gap=RELOAD_TOLERANCE).promoted
    even_chance = Gate(significance=0.5)
    assert decide(predictions(wrong=range(201)), CHAMPION, LABELS, even_chance, reload_gap=0).promoted  # p is 0.5


def test_every_limit_can_be_set() -> None:
    strict = Gate(floor=0.99, significance=0.5, margin=0.0, recall_margin=0.0, calibration_margin=0.0)
    worse = predictions(wrong=range(202), confidence=0.9)
    decision = decide(worse, CHAMPION, LABELS, strict, reload_gap=0)
    assert failed(decision) == ["floor", "significance", "margin", "recall", "calibration"]
    lax = Gate(floor=0, significance=1e-12, margin=1, recall_margin=1, calibration_margin=1)
    assert decide(predictions(wrong=range(230)), CHAMPION, LABELS, lax, reload_gap=0).promoted


@pytest.mark.parametrize(
    ("won", "lost", "p_value"), [(0, 0, 1.0), (0, 1, 0.5), (0, 5, 1 / 32), (5, 0, 1.0), (1, 1, 0.75)]
)
def test_mcnemars_test_is_exact_and_one_sided(won: int, lost: int, p_value: float) -> None:
    assert mcnemar(won, lost) == pytest.approx(p_value)


def test_the_largest_loss_covers_the_true_one_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    true_loss = (0.6 - 0.4) * 100 / 10_000
    losses = random.binomial(100, 0.6, size=1000)
    covered = [largest_loss(100 - lost, lost, total=10_000, significance=0.05) >= true_loss for lost in losses]
    assert 0.95 <= np.mean(covered) <= 0.98


def test_the_largest_loss_is_the_exact_bound() -> None:
    # Of one image on which they differ, won: a loss has a share of at most 1 - significance
    assert largest_loss(1, 0, total=100, significance=0.2) == pytest.approx((2 * 0.8 - 1) / 100)


def test_no_difference_rules_every_loss_out() -> None:
    assert largest_loss(0, 0, total=10_000, significance=0.05) == 0
