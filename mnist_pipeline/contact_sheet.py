"""A contact sheet: pictures side by side, each over a few lines of text."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mnist_pipeline.text import printable

GAP, LINE = 10, 18  # pixels between the panels, and of a line of text
LETTER = 7  # pixels of a letter, at most: longer lines are cut off


def contact_sheet(
    pictures: Sequence[Image.Image], captions: Sequence[Sequence[str]], *, panel: int, columns: int
) -> Image.Image:
    """Return `pictures`, each fitted into `panel` pixels, in rows of `columns`, over their lines, the last in red."""
    rows, lines = -(-len(pictures) // columns) or 1, max(map(len, captions), default=0)
    height = panel + lines * LINE + GAP
    sheet = Image.new("RGB", (columns * (panel + GAP) + GAP, rows * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LINE - 4)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP + place % columns * (panel + GAP), GAP + place // columns * height
        resampling = Image.Resampling.NEAREST if max(picture.size) < panel else Image.Resampling.BICUBIC
        fitted = ImageOps.contain(picture.convert("RGB"), (panel, panel), resampling)
        sheet.paste(fitted, (left + (panel - fitted.width) // 2, top + (panel - fitted.height) // 2))
        for number, line in enumerate(caption):
            color = "#b3261e" if number == len(caption) - 1 else "black"
            shown = printable(line)[: panel // LETTER]
            draw.text((left, top + panel + 2 + number * LINE), shown, fill=color, font=font)
    return sheet
