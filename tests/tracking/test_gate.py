"""What the gate lets through, on made-up predictions, and why it keeps the rest."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

from mnist_pipeline.config import MNIST_FLOOR, Gate
from mnist_pipeline.tracking.gate import RELOAD_TOLERANCE, Decision, decide, largest_loss, mcnemar
from mnist_pipeline.training.evaluation import Evaluation, evaluate

LABELS = torch.arange(10_000) % 10
GATE = Gate(floor=MNIST_FLOOR)


def predictions(*, wrong: range, confidence: float = 0.99) -> Evaluation:
    """What a model is scored at that gets the images `wrong` for the next class, and all others right."""
    predicted = LABELS.clone()
    rows = list(wrong)
    predicted[rows] = (LABELS[rows] + 1) % 10
    probabilities = torch.full((len(LABELS), 10), (1 - confidence) / 9)
    probabilities[torch.arange(len(LABELS)), predicted] = confidence
    return evaluate(probabilities, LABELS)


CHAMPION = predictions(wrong=range(200))  # 98 %


def compare(challenger: Evaluation, champion: Evaluation | None = CHAMPION, *, reload_gap: float = 0.0) -> Decision:
    return decide(challenger, champion, LABELS, GATE, reload_gap=reload_gap)


def failed(decision: Decision) -> list[str]:
    return [check.name for check in decision.checks if not check.passed]


def test_a_better_challenger_is_promoted_and_so_is_an_identical_one() -> None:
    assert compare(predictions(wrong=range(150))).promoted
    assert compare(CHAMPION).promoted


def test_a_challenger_with_as_many_but_other_mistakes_is_promoted() -> None:
    decision = compare(predictions(wrong=range(50, 250)))
    assert decision.promoted
    assert (decision.numbers["wins"], decision.numbers["losses"]) == (50, 50)


def test_what_won_and_lost_says_of_the_challenger() -> None:
    for wins, losses, evidence in [(50, 20, "significantly better"), (20, 20, "not significantly worse")]:
        decision = compare(predictions(wrong=range(wins, 200 + losses)))
        assert f"{wins} images won, {losses} lost: {evidence} (" in decision.reasons[1]


def test_the_floor_holds_whatever_the_champions_accuracy() -> None:
    decision = compare(predictions(wrong=range(301)), predictions(wrong=range(400)))
    assert failed(decision) == ["floor"]
    assert decision.reasons == ("accuracy 96.99 %, the champion's 96.00 % (required: at least 97.00 %)",)
    assert compare(predictions(wrong=range(300)), predictions(wrong=range(400))).promoted


def test_a_significantly_worse_challenger_is_rejected() -> None:
    decision = compare(predictions(wrong=range(230)))  # 30 losses, no wins
    assert failed(decision) == ["significance"]
    found = "0 images won, 30 lost: significantly worse (McNemar's p of being worse 9.3e-10)"
    assert decision.reasons == (f"{found} (required: at least 0.05)",)


def test_a_challenger_whose_loss_may_be_too_large_is_rejected_though_not_significantly_worse() -> None:
    decision = compare(predictions(wrong=range(180, 400)))  # 180 wins, 200 losses
    assert failed(decision) == ["margin"]
    assert decision.reasons == ("may be up to 0.53 points less accurate (required: at most 0.50 points)",)


def test_a_challenger_is_rejected_if_the_recall_of_one_class_falls_too_far() -> None:
    wrong = predictions(wrong=range(0))
    probabilities = wrong.probabilities.clone()
    sevens = torch.where(LABELS == 7)[0][:41]  # where the champion is wrong in 20 of them
    probabilities[sevens] = probabilities[sevens].roll(1, dims=1)
    decision = compare(evaluate(probabilities, LABELS))
    assert failed(decision) == ["recall"]
    assert "(class 7)" in decision.reasons[0]


def test_a_challenger_with_a_much_worse_calibration_is_rejected() -> None:
    decision = compare(predictions(wrong=range(190), confidence=0.9))
    assert failed(decision) == ["calibration"]
    assert decision.reasons == ("calibration error 0.0810, the champion's 0.0100 (required: at most 0.0300)",)


@pytest.mark.parametrize("gap", [1e-3, math.inf, math.nan])
def test_a_model_that_does_not_reload_is_rejected(gap: float) -> None:
    assert failed(compare(predictions(wrong=range(100)), reload_gap=gap)) == ["reload"]
    assert failed(compare(predictions(wrong=range(100)), None, reload_gap=gap)) == ["reload"]


@pytest.mark.parametrize(
    ("gap", "reason"),
    [
        (math.inf, "cannot be loaded in another process (required: at most 1e-05)"),
        (1e-3, "probabilities differ by 1.0e-03 in another process (required: at most 1e-05)"),
    ],
)
def test_the_reload_check_says_why_it_failed(gap: float, reason: str) -> None:
    assert compare(CHAMPION, reload_gap=gap).reasons == (reason,)


def test_without_a_floor_a_version_must_be_significantly_better_than_guessing() -> None:
    for wrong, passes in ((9_000, False), (8_960, False), (8_940, True)):  # right on 1,040 and 1,060 of 10,000
        decision = decide(predictions(wrong=range(wrong)), None, LABELS, Gate(), reload_gap=0)
        assert decision.promoted == passes
    decision = decide(predictions(wrong=range(9_000)), CHAMPION, LABELS, Gate(), reload_gap=0)
    answer = "always answering with the most frequent class"
    assert decision.reasons[0] == (
        "accuracy 10.00 %, the champion's 98.00 %; p against guessing is 0.5 "
        f"(required: significantly more than the 10.00 % of {answer}, p below 0.05)"
    )


def test_the_first_version_needs_only_the_floor_and_to_reload() -> None:
    decision = compare(predictions(wrong=range(300), confidence=0.6), None)
    assert decision.promoted
    assert [check.name for check in decision.checks] == ["floor", "reload"]
    assert failed(compare(predictions(wrong=range(301)), None)) == ["floor"]
    assert decision.numbers == {"accuracy": 0.97, "reload_gap": 0.0}


def test_every_number_of_the_comparison_is_returned_by_name() -> None:
    numbers = compare(predictions(wrong=range(10, 205))).numbers
    names = ["accuracy", "reload_gap", "champion_accuracy", "wins", "losses", "p_value", "largest_loss", "recall_fall"]
    assert [*numbers] == [*names, "calibration_error", "champion_calibration_error"]
    assert (numbers["accuracy"], numbers["champion_accuracy"], numbers["wins"], numbers["losses"]) == (
        0.9805,
        0.98,
        10,
        5,
    )


def test_a_value_that_just_meets_its_limit_passes() -> None:
    hardly_any = Gate(floor=0.98, margin=0.0003, recall_margin=0, calibration_margin=0)
    assert decide(CHAMPION, CHAMPION, LABELS, hardly_any, reload_gap=RELOAD_TOLERANCE).promoted
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
    ("wins", "losses", "p_value"), [(0, 0, 1.0), (0, 1, 0.5), (0, 5, 1 / 32), (5, 0, 1.0), (1, 1, 0.75)]
)
def test_mcnemars_test_is_exact_and_one_sided(wins: int, losses: int, p_value: float) -> None:
    assert mcnemar(wins, losses) == pytest.approx(p_value)


def test_the_largest_loss_covers_the_true_loss_at_its_level() -> None:
    random = np.random.default_rng(0)
    true_loss = (0.6 - 0.4) * 100 / 10_000
    losses = random.binomial(100, 0.6, size=1000)
    covered = [largest_loss(100 - lost, lost, total=10_000, significance=0.05) >= true_loss for lost in losses]
    assert 0.95 <= np.mean(covered) <= 0.98


def test_the_largest_loss_is_the_exact_bound() -> None:
    # Of one image on which they differ, won: a loss has a share of at most 1 - significance
    assert largest_loss(1, 0, total=100, significance=0.2) == pytest.approx((2 * 0.8 - 1) / 100)


@pytest.mark.parametrize("total", [20, 77, 250, 1000])
def test_the_largest_loss_covers_the_true_loss_on_a_small_holdout_too(total: int) -> None:
    true_loss = 0.04  # the challenger wins nothing
    chances = binom(total, true_loss).pmf(range(total + 1))
    bounds = [largest_loss(0, losses, total=total, significance=0.05) for losses in range(total + 1)]
    assert sum(chance for chance, bound in zip(chances, bounds, strict=True) if bound >= true_loss) >= 0.95


def test_without_a_difference_losses_are_ruled_out_that_so_many_images_would_have_shown() -> None:
    assert largest_loss(0, 0, total=10_000, significance=0.05) == pytest.approx(3e-4, rel=0.01)  # the rule of three
    assert largest_loss(0, 0, total=77, significance=0.05) > 0.03
