"""Draws a folder of photographs as a person might have it: three classes, a few wrong labels and some duplicates.

.venv/bin/python benchmarks/photos.py pets        400 JPEGs of cats, dogs and birds in pets/; planted.csv beside it
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("bird", "cat", "dog")
SIZES = ((1200, 900), (900, 1200), (1000, 1000))  # width and height, in pixels
IMAGES, WRONG, COPIES = 400, 8, 12


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    """Draw an animal's silhouette somewhere near the middle, in some light, on some ground."""
    width, height = SIZES[rng.integers(len(SIZES))]
    ground, fur = rng.integers(120, 230, 3), rng.integers(20, 90, 3)
    picture = Image.new("RGB", (width, height), tuple(ground.tolist()))
    pen = ImageDraw.Draw(picture)
    size = min(width, height) * rng.uniform(0.32, 0.42)
    x, y = width / 2 + rng.normal(0, 0.04) * width, height / 2 + rng.normal(0, 0.04) * height

    def ellipse(dx: float, dy: float, rx: float, ry: float) -> None:
        box = (x + (dx - rx) * size, y + (dy - ry) * size, x + (dx + rx) * size, y + (dy + ry) * size)
        pen.ellipse(box, fill=tuple(fur.tolist()))

    def polygon(*points: tuple[float, float]) -> None:
        pen.polygon([(x + dx * size, y + dy * size) for dx, dy in points], fill=tuple(fur.tolist()))

    if kind == "bird":  # two wings and a beak
        ellipse(0, 0, 0.3, 0.25)
        polygon((-0.2, 0), (-1.1, -0.6), (-0.9, 0.1))
        polygon((0.2, 0), (1.1, -0.6), (0.9, 0.1))
        polygon((-0.1, 0.2), (0.1, 0.2), (0, 0.7))
    elif kind == "cat":  # a head with pointed ears, from in front
        ellipse(0, 0.1, 0.75, 0.65)
        polygon((-0.7, 0), (-0.65, -0.95), (-0.15, -0.4))
        polygon((0.7, 0), (0.65, -0.95), (0.15, -0.4))
    else:  # a long body on four legs, from the side
        ellipse(0, 0, 0.8, 0.3)
        ellipse(0.85, -0.35, 0.3, 0.25)
        for leg in (-0.65, -0.4, 0.35, 0.6):
            polygon((leg, 0), (leg + 0.15, 0), (leg + 0.15, 0.95), (leg, 0.95))
    picture = picture.rotate(rng.normal(0, 6), fillcolor=tuple(ground.tolist()))
    light = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.7, 1), width)[None, :, None]
    noise = rng.normal(0, 12, (height, width, 1))
    lit = (np.asarray(picture) * light + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(lit).filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))


def write(folder: Path, *, images: int = IMAGES, wrong: int = WRONG, copies: int = COPIES, seed: int = 0) -> set[str]:
    """Write the dataset; return the files whose labels are wrong, relative to `folder`."""
    rng = np.random.default_rng(seed)
    originals = images - copies
    kinds = rng.integers(3, size=originals)
    labels = kinds.copy()
    planted = rng.choice(originals, wrong, replace=False)
    labels[planted] = (kinds[planted] + rng.integers(1, 3, wrong)) % 3
    files = [Path(CLASSES[label]) / f"IMG_{1000 + number}.jpg" for number, label in enumerate(labels)]
    for file, kind in zip(files, kinds, strict=True):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        draw(CLASSES[kind], rng).save(folder / file, quality=85)
    for number in rng.choice(np.setdiff1d(np.arange(originals), planted), copies, replace=False):
        file = folder / files[number]
        file.with_name(f"{file.stem} (1).jpg").write_bytes(file.read_bytes())
    return {files[number].as_posix() for number in planted}


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "pets")
    names = sorted(write(target))
    with target.with_name("planted.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows([["file"], *([name] for name in names)])
    print(f"{target} holds {IMAGES} images, {WRONG} of them with a wrong label and {COPIES} twice")
