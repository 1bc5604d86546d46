"""The digit in a picture as people take them is found, and what is none is said to be unclear."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_pipeline.data.pictures import preprocessing
from tests.data.files import encoded, read_one

PLAIN = np.full((280, 280), 235, np.float32)
_seven = Image.fromarray(PLAIN)
ImageDraw.Draw(_seven).line([(95, 70), (185, 70), (130, 215)], fill=40, width=22, joint="curve")
SEVEN = np.asarray(_seven)


def half_in_shadow(grey: np.ndarray) -> None:
    grey[:, 150:] *= 0.55


def under_a_lamp(grey: np.ndarray) -> None:
    rows, columns = np.ogrid[0:280, 0:280]
    grey *= 1.1 / (1 + (np.hypot(rows, columns) / 150) ** 2)


def where_two_shadows_overlap(grey: np.ndarray) -> None:
    rows, columns = np.ogrid[0:280, 0:280]
    for row, column in ((110, 70), (180, 120)):
        grey[np.hypot((rows - row) / 60, (columns - column) / 90) < 1] *= 0.65


def on_ruled_paper(grey: np.ndarray) -> None:
    for top in range(20, 280, 40):
        grey[top : top + 2] = np.minimum(grey[top : top + 2], 150)


def on_squared_paper(grey: np.ndarray) -> None:
    on_ruled_paper(grey)
    on_ruled_paper(grey.T)


def in_a_frame(grey: np.ndarray) -> None:
    grey[:2] = grey[-2:] = grey[:, :2] = grey[:, -2:] = 30


def in_a_printed_box(grey: np.ndarray) -> None:
    for lines in (grey[40:240], grey.T[40:240]):
        lines[:, 40:43] = lines[:, 237:240] = 30


def beside_a_table(grey: np.ndarray) -> None:
    grey[:, :45] = 60


@pytest.mark.parametrize(
    "taken",
    [
        *(half_in_shadow, where_two_shadows_overlap, under_a_lamp, on_ruled_paper, on_squared_paper),
        *(in_a_frame, in_a_printed_box, beside_a_table),
    ],
)
def test_a_photographed_digit_is_read_as_on_plain_paper(taken: Callable[[np.ndarray], None]) -> None:
    photograph = SEVEN.copy()
    taken(photograph)
    plain = read_one(encoded(Image.fromarray(SEVEN.astype(np.uint8)))).astype(int)
    reading = preprocessing.read(encoded(Image.fromarray(photograph.astype(np.uint8))))
    assert abs(reading.pixels[0] - plain).sum() < 0.2 * plain.sum()
    assert not reading.warning


def two_sevens(grey: np.ndarray) -> None:
    grey[:] = np.hstack([SEVEN[:, 70:210], SEVEN[:, 70:210]])


def a_scribble(grey: np.ndarray) -> None:
    points = np.random.default_rng(0).uniform(40, 240, (20, 2))
    image = Image.fromarray(grey)
    ImageDraw.Draw(image).line([(x, y) for x, y in points], fill=40, width=6)
    grey[:] = np.asarray(image)


def over_the_edge(grey: np.ndarray) -> None:
    grey[:] = np.roll(SEVEN, 120, axis=1)
    grey[:, :100] = 235


def only_a_shadow(grey: np.ndarray) -> None:
    rows, columns = np.ogrid[0:280, 0:280]
    grey[columns > 150 + 0.15 * rows] *= 0.55


def only_a_soft_shadow(grey: np.ndarray) -> None:
    rows, columns = np.ogrid[0:280, 0:280]
    grey *= 1 - 0.4 * np.exp(-((rows - 140) ** 2 + (columns - 140) ** 2) / (2 * 40**2))


@pytest.mark.parametrize(
    ("drawn", "warning"),
    [
        (two_sevens, "2 marks of equal size"),
        (a_scribble, "more strokes than a digit has"),
        (over_the_edge, "it runs over the edge"),
        (only_a_shadow, "it runs over the edge"),
        (only_a_soft_shadow, "too faint or too soft for a stroke"),
    ],
)
def test_a_picture_that_is_unclear_is_read_with_its_reason(drawn: Callable[[np.ndarray], None], warning: str) -> None:
    grey = PLAIN.copy()
    drawn(grey)
    reading = preprocessing.read(encoded(Image.fromarray(grey.astype(np.uint8))))
    assert reading.warning == warning
    assert reading.pixels.any()


def test_digits_in_a_row_are_split_from_left_to_right() -> None:
    row = np.hstack([SEVEN, np.rot90(SEVEN, 2), SEVEN])
    reading = preprocessing.read(encoded(Image.fromarray(row.astype(np.uint8))), split=True)
    first, second, third = reading.pixels.astype(int)
    assert not reading.warning
    assert abs(first - third).mean() < 5
    assert abs(first - second[::-1, ::-1]).mean() < 30 < abs(first - second).mean()


@pytest.mark.parametrize("count", [11, 30])
def test_a_long_row_is_split_as_a_whole(count: int) -> None:
    row = Image.fromarray(np.hstack([SEVEN] * count).astype(np.uint8))
    reading = preprocessing.read(encoded(row.resize((28 * count, 28))), split=True)
    assert (len(reading.pixels), reading.warning) == (count, "")


def test_what_is_outside_the_row_is_told() -> None:
    rows = np.vstack([np.hstack([SEVEN] * 3)] * 2)
    reading = preprocessing.read(encoded(Image.fromarray(rows.astype(np.uint8))), split=True)
    assert (len(reading.pixels), reading.warning) == (3, "3 marks of equal size outside the row")


@pytest.mark.parametrize("side", [28, 50])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_blank_picture_is_said_to_be_unclear(grey: int, side: int) -> None:
    reading = preprocessing.read(encoded(Image.new("L", (side, side), grey)))
    assert reading.warning == "no ink stands out"
    assert not reading.pixels.any()
