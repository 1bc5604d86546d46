"""Names stay plain text, whatever shows them."""

import pytest

from mnist_pipeline.text import figure_text, from_spreadsheet, listed, markdown_text, printable, spreadsheet_text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff", r"\udcff"),
    ],
)
def test_a_terminal_has_nothing_to_obey(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.parametrize("name", ["a b.png", "é", "猫", "می‌شود", "👩‍🔬", "3.45\u202fPM", r"a\b"])
def test_letters_of_any_script_are_left_as_they_are(name: str) -> None:
    assert printable(name) == name


def test_markdown_shows_markup_as_text() -> None:
    assert markdown_text("![x](http://a/b)|<b>`") == r"\!\[x\]\(http\:\/\/a\/b\)\|\<b\>\`"


def test_a_figure_shows_dollar_signs() -> None:
    assert figure_text("$^bad$") == r"\$^bad\$"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("@a", "'@a"),
        ("\t=1", "'\t'=1"),
        ("＝1", "'＝1"),
        ("a;=1+1;.png", "a;'=1+1;.png"),  # where ; divides cells
        ("a;'=1", "a;''=1"),
        ("a\t-1\tb", "a\t'-1\tb"),
        ("+a", "'+a"),
        ("-1-1", "'-1-1"),
        ("-1", "-1"),
        ("a=", "a="),
        ("'s-Hage", "''s-Hage"),
        ("'=1", "''=1"),
    ],
)
def test_a_spreadsheet_has_nothing_to_compute(name: str, shown: str) -> None:
    assert spreadsheet_text(name) == shown
    assert from_spreadsheet(shown) == name


@pytest.mark.parametrize(("count", "shown"), [(0, ""), (5, "0, 1, 2, 3, 4"), (1007, "0, 1, 2, 3, 4, and 1,002 more")])
def test_a_long_list_is_cut_off_with_a_number(count: int, shown: str) -> None:
    assert listed(map(str, range(count))) == shown
