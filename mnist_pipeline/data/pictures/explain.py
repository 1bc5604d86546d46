"""A strip of images that shows how a picture was read, step by step."""

import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mnist_pipeline.data.pictures.preprocessing import Reading

PANEL, GAP, TEXT = 196, 8, 18  # pixels: of a step, between two, of a line of text
MAX_NAME = 255  # bytes, on nearly every file system


def strip_file(folder: Path, name: str) -> Path:
    """Return where in `folder` the strip of the picture `name` is: under that name, if a file's name may be as long."""
    file = folder / f"{name}.png"
    is_short = len(os.fsencode(file.name)) <= MAX_NAME
    return file if is_short else file.with_name(f"{hashlib.sha256(name.encode()).hexdigest()}.png")


def write_strip(reading: Reading, file: Path) -> None:
    """Draw the steps of `reading`, what the network sees at the end, and the warning, if there is one."""
    seen = {
        f"seen {number}" if len(reading.pixels) > 1 else "seen": each for number, each in enumerate(reading.pixels, 1)
    }
    panels = {**reading.steps, **seen}
    strip = Image.new("L", (len(panels) * (PANEL + GAP) + GAP, PANEL + 2 * TEXT + 2 * GAP), 255)
    draw = ImageDraw.Draw(strip)
    for place, (name, pixels) in enumerate(panels.items()):
        left = GAP + place * (PANEL + GAP)
        draw.text((left, 2), name, fill=0)
        scale = PANEL / max(pixels.shape)
        height, width = (max(round(length * scale), 1) for length in pixels.shape)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        strip.paste(image, (left, TEXT))
        draw.rectangle((left - 1, TEXT - 1, left + width, TEXT + height), outline=160)  # as some are white
    if reading.warning:
        draw.text((GAP, TEXT + PANEL + GAP), f"unclear: {reading.warning}", fill=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    strip.save(file)
