"""Lines that are no ink of the writer's: those of ruled and squared paper, a margin, a printed box, a frame."""

import numpy as np
from scipy import ndimage

THICKEST = 0.025  # of the picture's longer side, up to twice the shorter one
TILT = np.linspace(-0.27, 0.27, 31)[:, None]  # slopes, up to 15°
ACROSS = 0.75  # of the picture's width: as long as this, one line is enough
LONG = 0.4  # as long as this, there must be several
SEVERAL = 3
FAINT = 0.25  # beside several, those that are parallel to them may be broken


def without_lines(mask: np.ndarray) -> np.ndarray:
    """Return `mask` (H, W) without its long, straight, thin lines, nearly level or upright."""
    for _ in range(2):
        mask = (mask & ~_level_lines(mask)).T  # the level ones first: what is left of crossings is the upright ones'
    return mask


def _level_lines(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of level lines, except those where a thicker stroke crosses one.

    A line is a peak of the Hough transform (Duda and Hart, 1972): of all lines, given by their slope and the row in
    which they pass the picture's middle, those that many pixels lie on. Each run of a column that is short enough to be
    a line's votes by its upper pixel.
    """
    height, width = mask.shape
    if mask.any(axis=0).sum() < LONG * width:  # most pictures: no line is that long
        return np.zeros_like(mask)
    thickest = 2 * round(THICKEST * min(max(mask.shape), 2 * min(mask.shape)) / 2) + 1
    thin = mask & ~ndimage.grey_opening(mask, (thickest, 1), mode="constant")
    upper = thin.copy()
    upper[1:] &= ~thin[:-1]
    rows, columns = np.nonzero(upper)
    reach = int(np.abs(TILT).max() * width / 2) + 2
    bins = height + 2 * reach
    middles = np.rint(rows - TILT * (columns - width / 2)).astype(int) + reach  # (slopes, pixels)
    cells = middles + bins * np.arange(len(TILT))[:, None]
    votes = np.bincount(cells.ravel(), minlength=len(TILT) * bins).reshape(len(TILT), bins)
    votes[:, 1:-1] = votes[:, :-2] + votes[:, 1:-1] + votes[:, 2:]  # a line is not quite straight
    found = votes >= LONG * width
    if 1 + (np.diff(np.flatnonzero(found.any(axis=0))) > thickest).sum() < SEVERAL:
        found = votes >= ACROSS * width
    elif found.any():
        parallel = ndimage.binary_dilation(found.any(axis=1))
        found = (votes >= FAINT * width) & parallel[:, None]
    slopes, middles = np.nonzero(found)
    across = np.arange(width)
    rows = np.rint(TILT[slopes] * (across - width / 2) + middles[:, None] - reach).astype(int)  # (lines, width)
    within = (rows >= 0) & (rows < height)
    on_line = np.zeros_like(mask)
    on_line[rows[within], np.broadcast_to(across, rows.shape)[within]] = True
    near: np.ndarray = thin & ndimage.maximum_filter1d(on_line, thickest, axis=0)
    return near
