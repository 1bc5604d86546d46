"""Segmentation: the marks on a picture's paper, whatever its light, and which of them is the digit.

Each step is a textbook one: the paper by a grey-scale closing, Otsu's threshold, lines by the Hough transform,
connected components (Gonzalez and Woods, Digital Image Processing, chapters 9 and 10).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from mnist_pipeline.data.pictures.lines import without_lines
from mnist_pipeline.text import counted

# Lengths are shares of the picture's shorter side.
SMOOTHING = 0.004
WIDEST = 1 / 3  # of a stroke: what is wider and as dark is paper in a shadow, or a table
GAP = 0.012  # that may break a stroke
SMALLEST = 0.06  # a mark smaller than this is a speck
LIKE_LINES = 1.2  # times the contrast of lines: less dark than this is one, if there is darker ink
PATCH = 0.04  # a square of paper in a shadow
PATCHES = 0.5  # of the picture: what covers more of it is its paper
DARKER = 1.6  # times as dark as that: ink
FAINTEST = 0.09  # of the paper's brightness: what is less dark than this does not stand out
DARKEST = 40  # of 255: paper in a deep shadow
NOISE_LEVEL = 12  # of 255: what is less dark than this, or a mark on average, may be the camera's noise
NOISE, FULL = 0.15, 0.85  # of a digit's strongest ink: less is paper, more is a full stroke

# How a mark is chosen
CANDIDATES = 10  # the largest marks are looked at
IN_A_ROW = 100  # of a row of digits
OFF_CENTRE = 0.4  # of the picture: this far from its middle, a mark counts 1/e
AT_EDGE = 0.2  # how much a mark counts that runs over the picture's edge
INSIDE = 0.3  # of its extent: if another mark that large lies within it, it is a frame
HOLLOW = 0.12  # of its box that a mark fills: less is rather a frame than a digit
SOLID, SQUARE = 0.55, 0.5  # of its box, if it is not slim: more is rather a patch of light, or a sheet of paper
UNLIKELY = 0.2  # how much a patch counts, or a mark around another
FRAGMENT = 0.15  # of a mark's extent: another with its middle this near is a part of it
CRUMB = 0.02  # of its area: one smaller than this is not
EQUAL = 0.6  # of its extent: another that large is its equal
THINNEST = 0.08  # of a digit's extent: thinner strokes are thickened, as MNIST has none

# What makes a mark unclear
STEEPNESS = 0.22  # of the paper's brightness: the edges of shadows, folds and what is left of lines rise less
LONGEST = 4.3  # times its extent: the strokes of a digit
THICKEST = 0.4  # of its extent: a stroke
OVER_EDGE = 0.1  # of its extent


@dataclass(frozen=True)
class Segmented:
    """The digits in a picture, each alone on black: (H, W), 0 to 1."""

    digits: list[np.ndarray]
    warning: str = ""  # why they are unclear, if they are
    steps: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Mark:
    """Connected ink, or several parts of it."""

    box: tuple[slice, slice]
    labels: tuple[int, ...]
    area: int
    contrast: float  # with its surroundings, of 255
    score: float  # how much it looks like what was photographed
    at_edge: int  # pixels on the picture's edge

    @property
    def extent(self) -> int:
        rows, columns = self.box
        return int(max(rows.stop - rows.start, columns.stop - columns.start))

    def encloses(self, other: "Mark") -> bool:
        """Return whether a substantial other mark lies within this one's box."""
        within = all(
            mine.start < theirs.start and theirs.stop < mine.stop
            for mine, theirs in zip(self.box, other.box, strict=True)
        )
        return within and other.extent > INSIDE * self.extent and other.contrast > self.contrast / 2

    def is_near(self, other: "Mark", margins: tuple[float, float]) -> bool:
        """Return whether the middle of `other` lies in this mark's box, or within these margins of it."""
        return all(
            mine.start - margin <= (theirs.start + theirs.stop) / 2 <= mine.stop + margin
            for mine, theirs, margin in zip(self.box, other.box, margins, strict=True)
        )

    def __add__(self, other: "Mark") -> "Mark":
        rows, columns = (
            slice(min(mine.start, theirs.start), max(mine.stop, theirs.stop))
            for mine, theirs in zip(self.box, other.box, strict=True)
        )
        return replace(
            self,
            box=(rows, columns),
            labels=self.labels + other.labels,
            area=self.area + other.area,
            at_edge=self.at_edge + other.at_edge,
        )


def segment(grey: np.ndarray, *, split: bool = False) -> Segmented:
    """Find the digit in a grey picture (H, W), 0 to 255, or with `split` those in a row, from left to right."""
    smooth = ndimage.gaussian_filter(grey, SMOOTHING * min(grey.shape))
    candidates = IN_A_ROW if split else CANDIDATES
    inks = [Ink(grey, smooth, candidates), Ink(255 - grey, 255 - smooth, candidates)]
    inks = [ink for ink in inks if ink.marks and ink.marks[0].score]
    if not inks:
        return Segmented([np.zeros_like(grey)], "no ink stands out")
    ink = max(inks, key=lambda ink: ink.marks[0].score)
    first, *others = ink.whole_marks()
    equals = [
        mark
        for mark in others
        if mark.extent >= EQUAL * first.extent
        and mark.contrast >= first.contrast / 2
        and not (mark.at_edge or mark.encloses(first))
    ]
    row = [mark for mark in equals if split and first.is_near(mark, (0, np.inf))]
    chosen = sorted([first, *row], key=lambda mark: mark.box[1].start)
    if any(ink.steepness(mark) < STEEPNESS for mark in chosen):
        warning = "too faint or too soft for a stroke"
    elif rest := len(equals) - len(row):
        outside = f"{counted(rest, 'mark')} of equal size outside the row"
        warning = outside if split else f"{rest + 1} marks of equal size"
    elif any(mark.at_edge > OVER_EDGE * mark.extent for mark in chosen):
        warning = "it runs over the edge"
    else:
        warning = next(filter(None, map(ink.doubt, chosen)), "")
    steps = {
        "background": ink.background,
        "contrast": ink.contrast * 255,
        "ink": ink.mask * 255,
        "without lines": ink.unlined * 255,
        "chosen": np.isin(ink.labels, [label for mark in chosen for label in mark.labels]) * 255,
    }
    return Segmented([ink.alone(mark) for mark in chosen], warning, steps)


class Ink:
    """The marks of a picture, if ink is darker than paper."""

    def __init__(self, grey: np.ndarray, smooth: np.ndarray, candidates: int) -> None:
        self.side, self.smooth, self.candidates = min(grey.shape), smooth, candidates
        self.background = ndimage.grey_closing(smooth, 2 * round(WIDEST * self.side / 2) + 1)
        paper = np.maximum(self.background, DARKEST)
        self.contrast = (self.background - grey) / paper
        darker = self.background - smooth
        relative = darker / paper
        self.mask = (relative > max(otsu(relative), FAINTEST)) & (darker > NOISE_LEVEL)
        self.unlined = without_lines(self.mask)
        lines = self.mask & ~self.unlined
        if lines.any() and otsu(relative[self.unlined]) > (faint := LIKE_LINES * relative[lines].mean()):
            self.unlined &= relative > faint  # what was missed of the lines
        self.unlined = without_patches(self.unlined, relative, 2 * max(round(PATCH * self.side / 2), 1) + 1)
        bridged = ndimage.maximum_filter(self.unlined, 2 * round(GAP * self.side) + 1)
        self.labels = ndimage.label(bridged, np.ones((3, 3)))[0] * self.unlined

    @cached_property
    def marks(self) -> list[Mark]:
        """The largest marks, the likeliest digit first."""
        areas = np.bincount(self.labels.ravel())
        areas[0] = 0
        boxes = ndimage.find_objects(self.labels)
        largest = [label for label in np.argsort(areas)[::-1][: self.candidates] if areas[label]]
        marks = [self._mark(int(label), boxes[label - 1], int(areas[label])) for label in largest]
        marks = [
            replace(mark, score=UNLIKELY * mark.score) if any(map(mark.encloses, marks)) else mark
            for mark in marks
            if mark.contrast > 0
        ]
        return sorted(marks, key=lambda mark: -mark.score)

    def whole_marks(self) -> list[Mark]:
        """Return the marks, each with its fragments."""
        rest, whole = self.marks, []
        while rest:
            mark, *rest = rest
            margin = FRAGMENT * mark.extent
            near = [
                other
                for other in rest
                if mark.is_near(other, (margin, margin))
                and other.area > CRUMB * mark.area
                and other.extent < mark.extent
                and not other.at_edge
            ]
            rest = [other for other in rest if other not in near]
            whole.append(sum(near, start=mark))
        return whole

    def alone(self, mark: Mark) -> np.ndarray:
        """Return a mark alone on black: (H, W), 0 to 1."""
        window = _widened(mark.box, 2)
        component = np.isin(self.labels[window], mark.labels)
        contrast = self.contrast[window]
        lines = ndimage.maximum_filter((self.mask & ~self.unlined)[window], 3) & ~component
        around = ndimage.maximum_filter(component, 3) & ~lines  # with the soft edges of its strokes
        scaled = contrast / np.percentile(contrast[component], 95)
        digit = np.clip((scaled - NOISE) / (FULL - NOISE), 0, 1) * around
        missing = round(THINNEST * mark.extent - _thickness(component))
        alone = np.zeros(self.labels.shape, np.float32)
        alone[window] = ndimage.grey_dilation(digit, size=missing + 1) if missing > 0 else digit
        return alone

    def steepness(self, mark: Mark) -> float:
        """Return how steep a mark's edge is: the median of the contrast's morphological gradient on its outline."""
        window = _widened(mark.box, 2)
        component, contrast = np.isin(self.labels[window], mark.labels), self.contrast[window]
        outline = ndimage.maximum_filter(component, 3) & ~ndimage.minimum_filter(component, 3)
        return float(np.median(ndimage.morphological_gradient(contrast, 3)[outline]))

    def doubt(self, mark: Mark) -> str:
        """Return why a mark is no digit, if so."""
        component = np.isin(self.labels[mark.box], mark.labels)
        thickness = _thickness(component)
        if component.sum() / thickness > LONGEST * mark.extent:
            return "more strokes than a digit has"
        return "a blot rather than a stroke" if thickness > THICKEST * mark.extent else ""

    def _mark(self, label: int, box: tuple[slice, slice], area: int) -> Mark:
        height, width = (each.stop - each.start for each in box)
        extent = max(height, width)
        around = _widened(box, extent // 2 + 2)
        paper = self.smooth[around][~self.mask[around]]
        inside = self.labels[box] == label
        contrast = (float(np.median(paper)) - float(self.smooth[box][inside].mean())) / 255 if paper.size else 0.0
        distance = sum(
            ((each.start + each.stop) / 2 / length - 0.5) ** 2
            for each, length in zip(box, self.labels.shape, strict=True)
        )
        edges = (self.labels[0], self.labels[-1], self.labels[:, 0], self.labels[:, -1])
        at_edge = sum(int((edge == label).sum()) for edge in edges)
        score = contrast * extent / self.side * float(np.exp(-distance / OFF_CENTRE**2))
        filled = area / (height * width)
        score *= min(filled / HOLLOW, 1) * (AT_EDGE if at_edge else 1)
        if filled > SOLID and min(height, width) > SQUARE * extent:
            score *= UNLIKELY
        stands_out = extent >= SMALLEST * self.side and contrast > NOISE_LEVEL / 255
        return Mark(box, (label,), area, contrast, score if stands_out else 0.0, at_edge)


def without_patches(mask: np.ndarray, relative: np.ndarray, size: int) -> np.ndarray:
    """Return `mask` (H, W) without what is far less dark than the rest of it, if a square of `size` fits into that.

    Where shadows overlap, or between two, paper is as dark as faint ink, but in patches; the faint part of ink is the
    soft edge of its strokes.
    """
    for _ in range(2):  # two shadows may differ
        threshold = otsu(relative[mask])
        faint, strong = mask & (relative <= threshold), mask & (relative > threshold)
        is_patch = ndimage.minimum_filter(faint, size).any() and faint.mean() < PATCHES
        if not is_patch or not strong.any() or relative[strong].mean() < DARKER * relative[faint].mean():
            break
        mask = strong
    return mask


def otsu(values: np.ndarray) -> float:
    """Return the threshold that parts `values`, 0 to 1, into the two classes that differ most (Otsu, 1979)."""
    levels = np.bincount((values.ravel() * 127).clip(0, 127).astype(np.uint8), minlength=128)
    mass = np.cumsum(levels * np.arange(128.0))
    below = np.cumsum(levels)
    above = below[-1] - below
    between = (mass[-1] * below - mass * below[-1]) ** 2 / np.maximum(below * above, 1)
    return float(between.argmax() + 1) / 127


def _thickness(component: np.ndarray) -> float:
    """Return how thick its strokes are on average: twice the area for each pixel of the outline."""
    area = component.sum()
    return float(2 * area / max(area - ndimage.minimum_filter(component, 3, mode="constant").sum(), 1))


def _widened(box: tuple[slice, slice], margin: int) -> tuple[slice, slice]:
    rows, columns = (slice(max(each.start - margin, 0), each.stop + margin) for each in box)
    return rows, columns
