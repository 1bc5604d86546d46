"""The interval of an accuracy."""

import pytest
from scipy.stats import binomtest

from mnist_pipeline.interval import interval_text, wilson


@pytest.mark.parametrize(("correct", "total"), [(11_693, 12_000), (0, 7), (7, 7), (1, 2)])
def test_the_interval_is_wilsons(correct: int, total: int) -> None:
    expected = binomtest(correct, total).proportion_ci(method="wilson")
    assert wilson(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_an_accuracy_is_printed_with_its_interval() -> None:
    assert interval_text(11_693, 12_000) == "97.44 % (97.14 to 97.71 %)"
