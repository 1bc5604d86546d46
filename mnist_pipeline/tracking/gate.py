"""The gate: decides from the predictions of challenger and champion on the same images. Pure."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_pipeline.config import Gate
from mnist_pipeline.text import counted, percent, points

if TYPE_CHECKING:  # torch, which history and rollback do without
    import torch

    from mnist_pipeline.training.evaluation import Evaluation

RELOAD_TOLERANCE = 1e-5  # float32 sums in another order differ by less


@dataclass(frozen=True)
class Check:
    """One requirement of the gate: what was found, and what was required."""

    name: str
    passed: bool
    finding: str
    required: str = ""  # in ledgers of version 0.1, part of the finding
    field: str = ""  # of `Gate`, that sets what is required

    @property
    def reason(self) -> str:
        return f"{self.finding} (required: {self.required})" if self.required else self.finding


@dataclass(frozen=True)
class Decision:
    """The checks and the numbers behind them: promoted if every check passed."""

    checks: tuple[Check, ...]
    numbers: dict[str, float]
    limits: dict[str, float] = field(default_factory=dict)  # that the gate had

    @property
    def promoted(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was rejected, or else how it compares."""
        failed = tuple(check.reason for check in self.checks if not check.passed)
        return failed or tuple(check.finding for check in self.checks if check.name in ("floor", "significance"))


def decide(
    challenger: "Evaluation", champion: "Evaluation | None", labels: "torch.Tensor", gate: Gate, *, reload_gap: float
) -> Decision:
    """Decide whether `challenger` may replace `champion`, both evaluated on the images with `labels` (N,).

    `reload_gap` is the largest difference between the challenger's probabilities and those of the registered model in a
    fresh process, infinite if it cannot be loaded there. Without a champion, only that and the floor are checked.
    """
    accuracy = challenger.accuracy
    against = "" if champion is None else f", the champion's {percent(champion.accuracy)}"
    found = f"accuracy {percent(accuracy)}{against}"
    if gate.floor is not None:
        passed, required = accuracy >= gate.floor, f"at least {percent(gate.floor)}"
    else:
        passed = challenger.guessing_p_value < gate.significance
        found += f"; p against guessing is {challenger.guessing_p_value:.2g}"
        guess = f"the {percent(challenger.guess_accuracy)} of always answering with the most frequent class"
        required = f"significantly more than {guess}, p below {gate.significance}"
    floor = Check("floor", passed, found, required, "floor")
    reload = Check(
        "reload",
        reload_gap <= RELOAD_TOLERANCE,  # not so for NaN
        "cannot be loaded in another process"
        if math.isinf(reload_gap)
        else f"probabilities differ by {reload_gap:.1e} in another process",
        f"at most {RELOAD_TOLERANCE:.0e}",
    )
    numbers = {"accuracy": accuracy, "reload_gap": reload_gap}
    if champion is None:
        return Decision((floor, reload), numbers, gate.limits)

    wins, losses = discordant(challenger.probabilities, champion.probabilities, labels)
    p_value = mcnemar(wins, losses)
    may_be_chance = p_value >= gate.significance
    evidence = "significantly worse"
    if may_be_chance:
        better = mcnemar(losses, wins) < gate.significance
        evidence = "significantly better" if better else "not significantly worse"
    loss = largest_loss(wins, losses, total=len(labels), significance=gate.significance)
    falls = champion.recall - challenger.recall
    worst, classes = int(np.argmax(falls)), challenger.classes
    fall = max(0.0, float(falls[worst]))
    new_error, old_error = challenger.calibration_error, champion.calibration_error
    checks = (
        floor,
        Check(
            "significance",
            may_be_chance,
            f"{counted(wins, 'image')} won, {losses:,} lost: {evidence} (McNemar's p of being worse {p_value:#.2g})",
            f"at least {gate.significance}",
            "significance",
        ),
        Check(
            "margin",
            loss <= gate.margin,
            f"may be up to {points(loss)} less accurate",
            f"at most {points(gate.margin)}",
            "margin",
        ),
        Check(
            "recall",
            fall <= gate.recall_margin,
            f"recall falls by up to {points(fall)} (class {classes[worst]})" if fall else "no class's recall falls",
            f"at most {points(gate.recall_margin)}",
            "recall_margin",
        ),
        Check(
            "calibration",
            new_error <= old_error + gate.calibration_margin,
            f"calibration error {new_error:.4f}, the champion's {old_error:.4f}",
            f"at most {old_error + gate.calibration_margin:.4f}",
            "calibration_margin",
        ),
        reload,
    )
    against_champion = {
        "champion_accuracy": champion.accuracy,
        "wins": wins,
        "losses": losses,
        "p_value": p_value,
        "largest_loss": loss,
        "recall_fall": fall,
        "calibration_error": new_error,
        "champion_calibration_error": old_error,
    }
    return Decision(checks, numbers | against_champion, gate.limits)


def won_and_lost(
    challenger: "torch.Tensor", champion: "torch.Tensor", labels: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the rows of the images that only the challenger gets right, and of those that only the champion does.

    The first two are probabilities (N, classes) for the same images. The most confident mistakes come first.
    """
    new, old = (probabilities.argmax(dim=1) == labels for probabilities in (challenger, champion))
    won, lost = (new & ~old).nonzero().ravel(), (old & ~new).nonzero().ravel()
    return _most_confident_first(won, champion), _most_confident_first(lost, challenger)


def _most_confident_first(rows: "torch.Tensor", probabilities: "torch.Tensor") -> "torch.Tensor":
    return rows[probabilities[rows].amax(dim=1).argsort(descending=True)]


def discordant(challenger: "torch.Tensor", champion: "torch.Tensor", labels: "torch.Tensor") -> tuple[int, int]:
    """Return how many images only the challenger gets right, and how many only the champion does."""
    won, lost = won_and_lost(challenger, champion, labels)
    return len(won), len(lost)


def mcnemar(wins: int, losses: int) -> float:
    """Return the one-sided p-value of McNemar's exact test: as many losses as wins, against more losses."""
    return float(_binomial_test(losses, wins + losses, "greater").pvalue) if wins + losses else 1.0


def largest_loss(wins: int, losses: int, *, total: int, significance: float) -> float:
    """Return the largest loss of accuracy that the result does not rule out, at a level of `significance`.

    Given the `wins + losses` images of `total` on which the two differ, the number of losses is binomial. The upper end
    of its exact one-sided interval (Clopper and Pearson, 1934) makes of McNemar's test one of non-inferiority. Where
    they differ on few, as on a small holdout, that number is too uncertain to be given: the upper end of the losses'
    share of all images, less the wins, is then larger, and taken.
    """

    def upper_end(images: int) -> float:
        interval = _binomial_test(losses, images, "less").proportion_ci(1 - significance, method="exact")
        return float(interval.high)

    differing = wins + losses
    given_differing = (2 * upper_end(differing) - 1) * differing / total if differing else 0.0
    return max(0.0, given_differing, upper_end(total) - wins / total)


def _binomial_test(losses: int, images: int, alternative: str) -> Any:
    from scipy.stats import binomtest  # here, as history and rollback do without SciPy

    return binomtest(losses, images, alternative=alternative)
