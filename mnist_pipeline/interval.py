"""How far a share of counted images may be off by chance."""

import math

from mnist_pipeline.text import percent

Z = 1.959964  # of a two-sided interval at 95 %


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of the share that `correct` of `total` ≥ 1 images are.

    Wilson, 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    share, spread = correct / total, Z**2 / total
    center = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    return (center - half) / (1 + spread), (center + half) / (1 + spread)


def interval_text(correct: int, total: int) -> str:
    """Return the share and its interval, as in `97.44 % (97.14 to 97.71 %)`."""
    low, high = wilson(correct, total)
    return f"{percent(correct / total)} ({100 * low:.2f} to {percent(high)})"
