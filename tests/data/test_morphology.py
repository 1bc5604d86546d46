"""Morphology by doubling is scipy's."""

import numpy as np
import pytest
from scipy import ndimage

from mnist_pipeline.data import morphology


@pytest.mark.parametrize("shape", [(1, 1), (3, 160), (160, 120), (40, 7)])
@pytest.mark.parametrize("size", [1, 3, 5, 55])
def test_squares_give_what_scipys_give(shape: tuple[int, int], size: int) -> None:
    grey = np.random.default_rng(0).random(shape, np.float32)
    assert (morphology.dilated(grey, size) == ndimage.maximum_filter(grey, size, mode="nearest")).all()
    assert (morphology.dilated(grey > 0.8, size) == ndimage.maximum_filter(grey > 0.8, size, mode="nearest")).all()
    assert (morphology.closed(grey, size) == ndimage.grey_closing(grey, size, mode="nearest")).all()


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_columns_keep_the_runs_that_are_long_enough(length: int) -> None:
    mask = np.random.default_rng(0).random((60, 40)) < 0.8
    expected = ndimage.binary_opening(mask, np.ones((length, 1)))
    assert (morphology.opened_columns(mask, length) == expected).all()
    wider = ndimage.maximum_filter1d(mask, 2 * length + 1, axis=0)
    assert (morphology.dilated_columns(mask, 2 * length + 1) == wider).all()
