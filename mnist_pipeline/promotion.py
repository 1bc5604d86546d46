"""The gate: how challenger and champion did on the same images in, a decision with its reasons out. Pure."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_pipeline.config import Gate

if TYPE_CHECKING:  # the ledger, which reads the checks, is to be there at once
    import torch

    from mnist_pipeline.evaluation import Evaluation

RELOAD_TOLERANCE = 1e-5  # float32 sums of the same numbers in another order differ by less


@dataclass(frozen=True)
class Check:
    """One thing that the gate asks for, and what it found."""

    name: str
    passed: bool
    finding: str


@dataclass(frozen=True)
class Decision:
    """Promoted if every check was passed."""

    checks: tuple[Check, ...]
    numbers: dict[str, float]

    @property
    def promoted(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The findings that spoke against it; where there are none, how it did."""
        against = tuple(check.finding for check in self.checks if not check.passed)
        return against or tuple(check.finding for check in self.checks if check.name in ("floor", "significance"))


def decide(
    challenger: "Evaluation", champion: "Evaluation | None", labels: "torch.Tensor", gate: Gate, *, reload_gap: float
) -> Decision:
    """Decide whether `challenger` may take the place of `champion`, both scored on the images that `labels` (N,) name.

    `reload_gap` is the largest difference between the challenger's probabilities and those that the registered model
    gives in a fresh process, infinite where it gives none. Where there is no champion, that and the floor are all that
    is asked for.
    """
    accuracy = challenger.accuracy
    floor = Check("floor", accuracy >= gate.floor, f"accuracy {accuracy:.2%}, at least {gate.floor:.2%} is asked for")
    reload = Check(
        "reload",
        reload_gap <= RELOAD_TOLERANCE,  # not so for NaN
        "it cannot be loaded in another process"
        if math.isinf(reload_gap)
        else f"reloaded elsewhere, its probabilities differ by {reload_gap:.1e}, {RELOAD_TOLERANCE:.0e} is allowed",
    )
    numbers = {"accuracy": accuracy, "reload_gap": reload_gap}
    if champion is None:
        return Decision((floor, reload), numbers)

    won, lost = discordant(challenger.probabilities, champion.probabilities, labels)
    p_value = mcnemar(won, lost)
    loss = largest_loss(won, lost, total=len(labels), significance=gate.significance)
    falls = champion.recall - challenger.recall
    worst, classes = int(np.argmax(falls)), challenger.classes
    fall = max(0.0, float(falls[worst]))
    new_error, old_error = challenger.calibration_error, champion.calibration_error
    checks = (
        floor,
        Check(
            "significance",
            p_value >= gate.significance,
            f"it wins {won:,} images and loses {lost:,} (McNemar's p {p_value:.2g}, at least {gate.significance})",
        ),
        Check(
            "margin",
            loss <= gate.margin,
            f"its accuracy may be {loss:.2%} lower than the champion's, {gate.margin:.2%} would be bearable",
        ),
        Check(
            "recall",
            fall <= gate.recall_margin,
            f"recall falls by up to {fall:.2%} (class {classes[worst]}), {gate.recall_margin:.2%} is allowed",
        ),
        Check(
            "calibration",
            new_error <= old_error + gate.calibration_margin,
            f"calibration error {new_error:.4f}, {old_error + gate.calibration_margin:.4f} is allowed",
        ),
        reload,
    )
    against_champion = {
        "champion_accuracy": champion.accuracy,
        "won": won,
        "lost": lost,
        "p_value": p_value,
        "largest_loss": loss,
        "recall_fall": fall,
        "calibration_error": new_error,
        "champion_calibration_error": old_error,
    }
    return Decision(checks, numbers | against_champion)


def discordant(challenger: "torch.Tensor", champion: "torch.Tensor", labels: "torch.Tensor") -> tuple[int, int]:
    """Count the images that only the challenger gets right, and those that only the champion does.

    The first two are probabilities (N, classes) for the same images.
    """
    new, old = (probabilities.argmax(dim=1) == labels for probabilities in (challenger, champion))
    return int((new & ~old).sum()), int((old & ~new).sum())


def mcnemar(won: int, lost: int) -> float:
    """Give the one-sided p value of McNemar's exact test that as many are lost as won, against that more are lost."""
    return float(_binomial_test(lost, won + lost, "greater").pvalue) if won + lost else 1.0


def largest_loss(won: int, lost: int, *, total: int, significance: float) -> float:
    """Give the loss of accuracy that is still compatible with what was seen, at a level of `significance`.

    Given the `won + lost` images of `total` on which the two differ, the number lost is binomial: the upper end of its
    share's exact one-sided interval (Clopper and Pearson, 1934) turns McNemar's test into one of non-inferiority.
    """
    differing = won + lost
    if not differing:
        return 0.0
    share = _binomial_test(lost, differing, "less").proportion_ci(1 - significance, method="exact").high
    return max(0.0, float((2 * share - 1) * differing / total))


def _binomial_test(lost: int, differing: int, alternative: str) -> Any:
    from scipy.stats import binomtest  # late, for the ledger's sake

    return binomtest(lost, differing, alternative=alternative)
