"""Text for people: names that users chose stay plain wherever they could mean something else; counts and tables."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import timedelta

UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # controls, and what is not UTF-8
# How a spreadsheet's formula begins, or what is kept from it; one with other separators divides a cell at ; and tabs
FORMULA = r"(?:['=@＝＠＋－\t\r\n]|[+-](?![0-9.]+\Z))"
CELL = r"(?:\A|(?<=[;\t\r\n]))"


def printable(text: str) -> str:
    """Return `text` with escapes in place of what a terminal would obey, or cannot show."""
    return UNSAFE.sub(lambda found: repr(found[0])[1:-1], text)


def as_seen(text: str) -> str:
    """Return `text` without what nobody sees: two texts that look the same become one."""
    visible = (letter for letter in unicodedata.normalize("NFC", text) if unicodedata.category(letter) != "Cf")
    return " ".join("".join(visible).split())


def is_utf8(text: str) -> bool:
    """Return whether `text` can be written in UTF-8: what the system gave as other bytes cannot."""
    return not re.search(r"[\ud800-\udfff]", text)


def markdown_text(text: str) -> str:
    """Return `text` as Markdown that shows it as it is, in a table too."""
    return re.sub(r"([!-/:-@[-`{-~])", r"\\\1", printable(text))


def figure_text(text: str) -> str:
    """Return `text` as matplotlib shows it as it is, rather than as mathematics."""
    return text.replace("$", r"\$")


def spreadsheet_text(text: str) -> str:
    """Return `text` with an apostrophe before what a spreadsheet would compute as a formula."""
    return re.sub(f"{CELL}(?={FORMULA})", "'", text)


def from_spreadsheet(text: str) -> str:
    """Return what `spreadsheet_text` was given."""
    return re.sub(f"{CELL}'(?={FORMULA})", "", text)


def counted(number: int, noun: str) -> str:
    """Return `number` with its noun: 1 image, 2 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return the first of `names`, and how many more there are."""
    names = [*names]
    more = f", and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def percent(share: float, digits: int = 2) -> str:
    """Return a share as in `97.44 %`."""
    return f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """Return the difference of two shares as in `0.50 points`."""
    return f"{100 * difference:.2f} points"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` as lines whose columns stand under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def duration(text: str) -> timedelta:
    """Return the time that `text` names, such as 7d, 12h or 30m. Raises `ValueError` if it names none."""
    found = re.fullmatch(r"(\d{1,5})([dhm])", text)
    if not found:
        raise ValueError(f"a time is given as 7d, 12h or 30m, not as {text}")
    return timedelta(**{{"d": "days", "h": "hours", "m": "minutes"}[found[2]]: int(found[1])})
