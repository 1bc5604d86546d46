"""Tables that people fill in, as spreadsheets save them: with ; or tabs too, and a mark before the first letter."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from mnist_pipeline.text import from_spreadsheet, printable


def rows_of(file: Path, *required: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield where each row of `file` is, and its cells by column, but for empty rows; a short row lacks the last.

    Raises `ValueError` if a `required` column is missing or there twice, or the file ends within a row.
    """
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not in UTF-8: save it as CSV in UTF-8") from None
    whole, text = text, re.sub(r"\A\s*(sep=.[\r\n]+)?\s*", "", text)
    above = len(whole.removesuffix(text).splitlines())
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        if missing := [name for name in required if name not in names]:
            raise ValueError(
                f"{file.name} has no column {missing[0]}: its first row must name {' and '.join(required)}"
            )
        if twice := [name for name in required if names.count(name) > 1]:
            raise ValueError(f"{file.name} has two columns {twice[0]}: remove one")
        reader.fieldnames = names
        last_line = 0 if text.endswith(("\n", "\r")) else len(text.splitlines())
        for row in reader:
            if reader.line_num == last_line and None in row.values():
                raise ValueError(f"{file.name} ends within its last row: save it anew")
            cells = {name: _plain(row[name]) for name in names if row[name] is not None}
            if any(cells.values()):
                yield f"{file.name}, row {above + reader.line_num}", cells
    except csv.Error as error:
        raise ValueError(f"{file.name}, row {above + reader.line_num}: {error}") from None


def meant(cell: str, names: Sequence[str]) -> str | None:
    """Return which of `names` a cell means, even if a spreadsheet has changed it; None if that is not clear."""
    if cell in names:
        return cell
    alike = [name for name in names if _is_alike(cell, name)]
    return alike[0] if len(alike) == 1 else None


def _is_alike(cell: str, text: str) -> bool:
    """Return whether a spreadsheet may have made `cell` of `text`: 7 of 007, TRUE of true, another form of é."""
    one, other = (unicodedata.normalize("NFC", each).casefold() for each in (cell, text))
    return one == other or (one.isdecimal() and other.isdecimal() and int(one) == int(other))


def _plain(cell: str) -> str:
    """Return what a cell says, without the apostrophe that keeps a spreadsheet from computing it."""
    return printable(from_spreadsheet(cell.strip()))
