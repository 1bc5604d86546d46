"""The kinds of picture that people take of a digit, and of what is none: half of them to tune on, half to report."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scene import Scene
from sklearn.datasets import load_sample_images

from mnist_pipeline.data.mnist import BUNDLED
from mnist_pipeline.data.readers import read_idx

DIGITS = read_idx(BUNDLED / "t10k-images-idx3-ubyte.gz")
LABELS = read_idx(BUNDLED / "t10k-labels-idx1-ubyte.gz")
Draw = Callable[[Scene, np.ndarray], None]


def plain(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)


def cream_paper(scene: Scene, digit: np.ndarray) -> None:
    scene.tint = (1.0, 0.97, 0.87)
    scene.paper *= 0.9
    scene.write(digit)


def chalk(scene: Scene, digit: np.ndarray) -> None:
    scene.paper = scene.rng.uniform(0.12, 0.3) + 0.02 * scene.cloud(12)
    scene.cover(scene.ink(digit) * (0.85 + 0.15 * (scene.cloud(200) > 0)), scene.rng.uniform(0.75, 0.95))


def pencil(scene: Scene, digit: np.ndarray) -> None:
    grain = 0.85 + 0.15 * np.tanh(scene.cloud(300))
    scene.cover(scene.ink(digit, pen=scene.rng.uniform(0.7, 0.85)) * grain, scene.rng.uniform(0.35, 0.5))


def light_falls_off(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    scene.light *= 1 - scene.rng.uniform(0.4, 0.6) * scene.half((-0.1, 0.1), min(scene.shape) * 1.3)


def ruled(scene: Scene, digit: np.ndarray) -> None:
    rng = scene.rng
    scene.lines(rng.uniform(-4, 4), rng.uniform(50, 150), rng.uniform(2, 7), rng.uniform(0.4, 0.8))
    scene.write(digit)


def squared(scene: Scene, digit: np.ndarray) -> None:
    rng = scene.rng
    angle, spacing, thickness, tone = (
        rng.uniform(-4, 4),
        rng.uniform(45, 120),
        rng.uniform(2, 6),
        rng.uniform(0.45, 0.8),
    )
    for each in (angle, angle + 90):
        scene.lines(each, spacing, thickness, tone)
    scene.write(digit)


def hard_shadow(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    scene.light *= 1 - scene.rng.uniform(0.35, 0.55) * scene.half((-0.25, 0.25), scene.rng.uniform(2, 15))


def lamp(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    row, column = (scene.rng.choice((-0.1, 1.1)) for _ in range(2))
    away = np.hypot(scene.rows / scene.shape[0] - row, scene.columns / scene.shape[1] - column)
    scene.light *= (1.1 / (1 + (away / scene.rng.uniform(0.45, 0.7)) ** 2)).astype(np.float32)


def table(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit, size=(0.35, 0.55))
    wood = scene.rng.uniform(0.15, 0.4) * (1 + 0.1 * scene.cloud(9))
    scene.cover(scene.half((0.3, 0.45), 3), wood)
    if scene.rng.random() < 0.5:
        scene.cover(scene.half((0.35, 0.45), 3), wood)


def frame(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    inset, thickness = scene.rng.integers(0, 30), scene.rng.integers(2, 8)
    field = np.zeros(scene.shape, np.float32)
    field[inset : -inset or None, inset : -inset or None] = 1
    inner = inset + thickness
    field[inner:-inner, inner:-inner] = 0
    scene.cover(field, 0.12)


def printed_box(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit, size=(0.4, 0.65))
    top, left, side = scene.box
    margin, thickness = round(side * scene.rng.uniform(0.0, 0.15)), scene.rng.integers(3, 9)
    field = np.zeros(scene.shape, np.float32)
    field[top - margin : top + side + margin, left - margin : left + side + margin] = 1
    inner = thickness - margin
    field[top + inner : top + side - inner, left + inner : left + side - inner] = 0
    scene.cover(field, scene.rng.uniform(0.1, 0.5))


def coloured_paper(scene: Scene, digit: np.ndarray) -> None:
    scene.tint = ((1.0, 0.9, 0.45), (1.0, 0.65, 0.75), (0.6, 0.9, 0.65), (0.55, 0.75, 1.0), (0.75, 0.6, 0.45))[
        scene.rng.integers(5)
    ]
    scene.paper += 0.015 * scene.cloud(150)
    scene.write(digit)


def crumpled(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    for _ in range(12):
        fold = scene.half((-0.5, 0.5), min(scene.shape) * scene.rng.uniform(0.05, 0.5))
        scene.light *= (
            1 + scene.rng.uniform(-0.12, 0.12) * fold * (1 - fold) * 4 + scene.rng.uniform(-0.06, 0.06) * (fold > 0.5)
        )


def whiteboard(scene: Scene, digit: np.ndarray) -> None:
    rng = scene.rng
    scene.paper[:] = rng.uniform(0.7, 0.85)
    scene.cover(0.12 * (scene.cloud(14) > 1), 0.4)  # what was wiped off
    scene.write(digit, tone=(0.1, 0.4), pen=0.6)
    scene.light *= 1 - 0.25 * scene.half((-0.2, 0.2), min(scene.shape))
    scene.light += 0.5 * scene.spot((rng.uniform(0, 1), rng.uniform(0, 1)), (0.15, 0.12), 1.2)  # the lamp's reflection


def screen(scene: Scene, digit: np.ndarray) -> None:
    rng = scene.rng
    is_dark = rng.random() < 0.5
    scene.paper[:] = 0.08 if is_dark else 0.85
    scene.write(digit, tone=(0.75, 0.9) if is_dark else (0.05, 0.2))
    for angle in rng.uniform(0, 180, 2):
        scene.lines(angle, rng.uniform(3, 9), rng.uniform(1, 3), 0.85)  # its pixels against the camera's
    scene.light *= 1 - 0.3 * scene.half((-0.2, 0.2), min(scene.shape))


def night(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    scene.light *= scene.rng.uniform(0.35, 0.55)
    scene.noise, scene.blur = scene.rng.uniform(0.05, 0.1), 2


def strong_jpeg(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    scene.quality = int(scene.rng.integers(4, 12))


def perspective(scene: Scene, digit: np.ndarray) -> None:
    rng = scene.rng
    if rng.random() < 0.5:
        scene.lines(rng.uniform(-3, 3), rng.uniform(60, 130), 3, rng.uniform(0.5, 0.75))
    scene.write(digit)
    scene.tilt(15)


def finger(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit, size=(0.4, 0.6))
    at = scene.rng.uniform(0.2, 0.8)
    centre = ((at, 0.0), (at, 1.0), (1.0, at))[scene.rng.integers(3)]
    scene.cover(scene.spot(centre, (0.13, 0.2), 0.08), scene.rng.uniform(0.4, 0.6))


def margin_line(scene: Scene, digit: np.ndarray) -> None:
    rng = scene.rng
    scene.lines(rng.uniform(-2, 2), rng.uniform(60, 110), 3, rng.uniform(0.55, 0.75))
    scene.write(digit, size=(0.4, 0.6))
    left = scene.shape[1] * rng.uniform(0.08, 0.2) + np.tan(rng.uniform(-0.05, 0.05)) * scene.rows
    scene.paper = np.where(abs(scene.columns - left) < 3, 0.5, scene.paper).astype(np.float32)


def binder_holes(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit, size=(0.4, 0.65))
    radius = scene.rng.uniform(0.015, 0.03)
    for row in np.arange(0.12, 1, scene.rng.uniform(0.12, 0.38)):
        scene.cover(scene.spot((row, 0.06), (radius, radius), 0.1), 0.15)


def shadow_of_a_hand(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    rng = scene.rng
    for _ in range(2):
        centre, radii = (rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9)), (rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5))
        scene.light *= 1 - rng.uniform(0.2, 0.45) * scene.spot(centre, radii, rng.uniform(0.05, 0.5))


def shadow_of_leaves(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    rng = scene.rng
    for _ in range(rng.integers(4, 10)):
        centre, radii = rng.uniform(0, 1, 2), rng.uniform(0.06, 0.2, 2)
        scene.light *= 1 - rng.uniform(0.15, 0.35) * scene.spot(tuple(centre), tuple(radii), rng.uniform(0.1, 0.8))


def shadow_of_a_pen(scene: Scene, digit: np.ndarray) -> None:
    scene.write(digit)
    angle, width, softness = scene.rng.uniform(0, np.pi), scene.rng.uniform(0.02, 0.05), scene.rng.uniform(0.01, 0.04)
    rows, columns = scene.rows / scene.shape[0] - 0.5, scene.columns / scene.shape[1] - 0.5
    across = abs(rows * np.sin(angle) + columns * np.cos(angle) - scene.rng.uniform(-0.3, 0.3))
    scene.light *= 1 - scene.rng.uniform(0.25, 0.45) * np.clip((width - across) / softness + 0.5, 0, 1)


def dusty_board(scene: Scene, digit: np.ndarray) -> None:
    scene.paper = 0.25 + 0.05 * scene.cloud(7) + 0.03 * scene.cloud(40)
    scene.cover(scene.ink(digit) * (0.7 + 0.3 * (scene.cloud(150) > -0.3)), scene.rng.uniform(0.7, 0.9))
    scene.light *= 1 - 0.4 * scene.half((-0.2, 0.2), min(scene.shape))


def graph_paper(scene: Scene, digit: np.ndarray) -> None:
    angle, spacing = scene.rng.uniform(-3, 3), scene.rng.uniform(18, 30)
    for each in (angle, angle + 90):
        scene.lines(each, spacing, 1.5, 0.85)
        scene.lines(each, 5 * spacing, 3, 0.7)
    scene.write(digit)


def sticky_note(scene: Scene, digit: np.ndarray) -> None:
    scene.tint = (1.0, 0.92, 0.5)
    scene.write(digit, size=(0.3, 0.45))
    top, left, side = scene.box
    margin = side * 0.2
    angle = scene.rng.uniform(-0.15, 0.15)
    rows, columns = scene.rows - (top + side / 2), scene.columns - (left + side / 2)
    on_note = np.maximum(abs(rows - angle * columns), abs(columns + angle * rows)) < side / 2 + margin
    scene.cover((~on_note).astype(np.float32), scene.rng.uniform(0.15, 0.5) * (1 + 0.1 * scene.cloud(9)))


def blank(scene: Scene, _digit: np.ndarray) -> None:
    scene.noise = 0.03
    scene.light *= 1 - scene.rng.uniform(0, 0.4) * scene.half((-0.1, 0.1), min(scene.shape))


def without_digit(draw: Draw, name: str) -> Draw:
    """Return the kind `name`, which is drawn as another is, but for the digit."""

    def drawn(scene: Scene, digit: np.ndarray) -> None:
        draw(scene, np.zeros_like(digit))

    drawn.__name__ = name  # from which its pictures are seeded
    return drawn


def two_digits(scene: Scene, digit: np.ndarray) -> None:
    _beside(scene, [digit, DIGITS[scene.rng.integers(len(DIGITS))]])


def three_digits(scene: Scene, digit: np.ndarray) -> None:
    _beside(scene, [digit, *DIGITS[scene.rng.integers(len(DIGITS), size=2)]])


def blank_ruled_under_a_pen(scene: Scene, digit: np.ndarray) -> None:
    shadow_of_a_pen(scene, np.zeros_like(digit))
    scene.lines(scene.rng.uniform(-4, 4), scene.rng.uniform(50, 150), 3, scene.rng.uniform(0.5, 0.75))


def scribble(scene: Scene, _digit: np.ndarray) -> None:
    image = Image.new("L", scene.shape[::-1])
    height, width = scene.shape
    points = scene.rng.uniform(
        (0.25 * width, 0.25 * height), (0.75 * width, 0.75 * height), (scene.rng.integers(12, 25), 2)
    )
    ImageDraw.Draw(image).line([*map(tuple, points)], fill=255, width=int(scene.rng.integers(8, 20)), joint="curve")
    scene.cover(np.asarray(image, np.float32) / 255, 0.2)


def letters(scene: Scene, _digit: np.ndarray) -> None:
    """Print a word."""
    image = Image.new("L", (120, 40))
    ImageDraw.Draw(image).text((10, 5), "".join(scene.rng.choice([*"ABEFGHKMNPRTWXYZ"], 5)), fill=255, font_size=28)
    height, width = scene.shape
    scene.cover(np.asarray(image.resize((width, width // 3)).crop((0, 0, width, height)), np.float32) / 255, 0.1)


def something_else(scene: Scene, _digit: np.ndarray) -> None:
    """Show a part of a photograph of a temple, or of a flower."""
    height, width = scene.shape
    image = Image.fromarray(load_sample_images().images[scene.rng.integers(2)]).convert("L")
    side = scene.rng.uniform(0.3, 1) * image.height
    left, top = (scene.rng.uniform(0, length - side) for length in image.size)
    scene.paper = np.asarray(image.resize((width, height), box=(left, top, left + side, top + side)), np.float32) / 255


def _beside(scene: Scene, digits: list[np.ndarray]) -> None:
    side = round(0.85 * scene.shape[1] / len(digits))
    row = np.hstack(digits)
    drawn = Image.fromarray(row).resize((side * len(digits), side), Image.Resampling.BICUBIC)
    top, left = (scene.shape[0] - side) // 2, round(0.07 * scene.shape[1])
    field = np.zeros(scene.shape, np.float32)
    field[top : top + side, left : left + side * len(digits)] = np.clip(np.asarray(drawn) / 255 * 3 - 1, 0, 1)[
        : scene.shape[0]
    ]
    scene.cover(field, 0.2)


KINDS: dict[str, tuple[Draw, ...]] = {
    "tune": (
        plain,
        cream_paper,
        chalk,
        pencil,
        light_falls_off,
        ruled,
        squared,
        hard_shadow,
        lamp,
        table,
        frame,
        printed_box,
        shadow_of_a_hand,
    ),
    "report": (
        *(coloured_paper, crumpled, whiteboard, screen, night, strong_jpeg, perspective, finger, margin_line),
        *(binder_holes, shadow_of_leaves, shadow_of_a_pen, dusty_board, graph_paper, sticky_note),
    ),
}
UNCLEAR: dict[str, tuple[Draw, ...]] = {
    "tune": (
        *(blank, two_digits, scribble),
        without_digit(hard_shadow, "blank_in_a_shadow"),
        without_digit(ruled, "blank_ruled"),
        without_digit(squared, "blank_squared"),
        without_digit(crumpled, "blank_crumpled"),
        without_digit(whiteboard, "wiped_whiteboard"),
        without_digit(shadow_of_leaves, "blank_under_leaves"),
    ),
    "report": (
        *(three_digits, letters, something_else),
        without_digit(graph_paper, "blank_graph_paper"),
        blank_ruled_under_a_pen,
    ),
}
