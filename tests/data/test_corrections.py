"""A table of corrections changes labels and removes images, or is refused with the number of the row."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from mnist_pipeline.config import FieldError
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Examples, Splits, load_splits
from tests.data.files import random_pixels, write_pictures


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for seed, name in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "pets" / name, random_pixels(40, 12, 10, seed=seed))
    return tmp_path / "pets"


def load(folder: Path, content: str | bytes = "", **fields: Any) -> Splits:
    """Load the splits of `folder` with a file of corrections that has this `content`."""
    if content:
        fields["relabel"] = folder.parent / "corrections.csv"
        fields["relabel"].write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_splits(DataSource(dataset=str(folder), **fields), folder)


def label(splits: Splits, name: str) -> str | None:
    """Return the label of the image in a file, none if it is in no set."""
    for part in splits.named().values():
        for each, number in zip(names(part), part.labels, strict=True):
            if each == name:
                return splits.schema.classes[int(number)]
    return None


def member(splits: Splits, part: str, number: int = 0) -> str:
    return names(splits.named()[part])[number]


def names(part: Examples) -> list[str]:
    assert part.names is not None
    return [str(name) for name in part.names]


def test_each_image_is_known_by_its_file(pets: Path) -> None:
    splits = load(pets)
    assert label(splits, "cat/007.png") == "cat"
    found = [name for part in splits.named().values() for name in names(part)]
    assert sorted(found) == [f"{name}/{number:03}.png" for name in ("cat", "dog") for number in range(40)]


def test_a_label_is_changed_and_an_image_removed_while_all_others_stay_where_they_are(pets: Path) -> None:
    before = load(pets)
    changed, removed, also = (member(before, "train", number) for number in range(3))
    other = "dog" if label(before, changed) == "cat" else "cat"
    after = load(pets, f"file,set,label\n{changed},train,{other}\n{removed},train,\n{also},train,remove\n")
    assert label(after, changed) == other
    assert label(after, removed) is label(after, also) is None
    assert [len(part) for part in after.named().values()] == [
        len(before.train) - 2,
        len(before.test),
        len(before.holdout),
    ]
    assert after.test.sha256 == before.test.sha256
    assert after.sha256 != before.sha256
    assert str(after).endswith("; 1 label changed and 2 images removed by corrections.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_as_a_spreadsheet_saves_it(separator: str, pets: Path) -> None:
    name = member(load(pets), "train")
    rows = [["File", "set", "Label", "likely", "confidence"], [name, "train", " remove ", "", "0,93"], [""] * 5]
    text = "\r\n".join(separator.join(f'"{cell}"' for cell in row) for row in rows)
    assert label(load(pets, b"\xef\xbb\xbf" + text.encode()), name) is None


@pytest.mark.parametrize("head", ["sep=;\n", "\n\n", "sep=;\r\n\r\n"])
def test_what_spreadsheets_put_above_the_first_row_is_left_out(head: str, pets: Path) -> None:
    name = member(load(pets), "train")
    assert label(load(pets, f"{head}file;label\n{name};remove\n"), name) is None


def test_classes_are_known_although_a_spreadsheet_takes_them_for_numbers_or_truths(tmp_path: Path) -> None:
    for seed, name in enumerate(("00007", "true")):
        write_pictures(tmp_path / "pets" / name, random_pixels(40, 12, 10, seed=seed))
    before = load(tmp_path / "pets")
    one, other = (member(before, "train", number) for number in range(2))
    after = load(tmp_path / "pets", f"file,label\n{one},7\n{other},TRUE\n")
    assert [label(after, name) for name in (one, other)] == ["00007", "true"]


def test_files_whose_names_are_decomposed_as_on_a_mac_are_found(tmp_path: Path) -> None:
    accented = unicodedata.normalize("NFD", "thé")
    for seed, name in enumerate((accented, "eau")):
        write_pictures(tmp_path / "pets" / name, random_pixels(40, 12, 10, seed=seed))
    before = load(tmp_path / "pets")
    name = next(each for each in names(before.train) if each.startswith("th"))
    for written in (name, unicodedata.normalize("NFC", name)):
        assert label(load(tmp_path / "pets", f"file,label\n{written},eau\n"), name) == "eau"


def test_a_table_that_removes_everything_is_refused(pets: Path) -> None:
    rows = "".join(f"{name},\n" for name in names(load(pets).train))
    with pytest.raises(FieldError, match=r"corrections.csv removes all \d+ images of train"):
        load(pets, f"file,label\n{rows}")


def test_extra_images_of_which_there_are_none_are_refused(pets: Path) -> None:
    (pets.parent / "more" / "cat").mkdir(parents=True)
    (pets.parent / "more" / "cat" / "notes.txt").touch()
    with pytest.raises(FieldError, match="extra holds no image that can be read"):
        load(pets, extra=pets.parent / "more")


def test_an_unchanged_table_changes_nothing(pets: Path) -> None:
    before = load(pets)
    name = member(before, "holdout")
    after = load(pets, f"file,set,label\n{name},train,{label(before, name)}\n")
    assert after.sha256 == before.sha256


def test_an_image_of_the_holdout_is_changed_only_if_its_row_says_so(pets: Path) -> None:
    name = member(load(pets), "holdout")
    with pytest.raises(FieldError, match=r"row 2: .* is in the holdout: its set must say holdout"):
        load(pets, f"file,set,label\n{name},train,remove\n")
    assert label(load(pets, f"file,set,label\n{name},holdout,remove\n"), name) is None


def test_extra_images_are_corrected_under_their_folders_name(pets: Path) -> None:
    more = pets.parent / "more"
    write_pictures(more / "cat", random_pixels(20, 12, 10, seed=7))
    joined = load(pets, extra=more)
    assert joined.extra
    name = next(each for each in names(joined.train) if each.startswith("more/"))
    after = load(pets, f"file,label\n{name},dog\n", extra=more)
    assert label(after, name) == "dog"
    assert after.extra
    assert after.extra.examples.labels.sum() == 1


def test_extra_images_never_have_the_names_of_the_datasets_own(pets: Path) -> None:
    more = pets.parent / "new" / "cat"  # of which the dataset has one, too
    write_pictures(more / "cat", random_pixels(20, 12, 10, seed=7))
    before, joined = load(pets), load(pets, extra=more)
    extra = {*names(joined.train)} - {*names(before.train)}
    assert extra
    assert all(name.startswith("new/cat/cat/") for name in extra)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("file,label\ncat/999.png,dog\n", "corrections.csv, row 2: there is no image cat/999.png in the data"),
        ("file,label\ncat/000.png,cat\ncat/001.png,cow\n", "row 3: cow is not a class: they are cat, dog, or remove"),
        ("file,label\ncat/000.png,cat\ncat/000.png,\n", "row 3: cat/000.png has another label in a row above"),
        ("name,label\ncat/000.png,cat\n", "corrections.csv has no column file"),
        ("file,label,label\ncat/000.png,cat,dog\n", "corrections.csv has two columns label"),
        ("file,set,label\ncat/000.png\ncat/001.png,train,cat\n", "row 2: is cut off before its label"),
        ("sep=;\n\nfile;label\ncat/000.png;cow\n", "row 4: cow is not a class"),
        ("file,label\ncat/000.png,cat\ncat/001", "corrections.csv ends within its last row: save it anew"),
        ("\n", "corrections.csv has no column"),
        (b"file,label\n\xff\xfe,cat\n", "corrections.csv is not in UTF-8: save it as CSV in UTF-8"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(content: str | bytes, problem: str, pets: Path) -> None:
    with pytest.raises(FieldError, match=problem):
        load(pets, content)


def test_images_of_mnist_are_known_by_their_number(splits: Splits) -> None:
    assert member(splits, "holdout", 7) == "test/00007"
    assert sorted(names(splits.train) + names(splits.test)) == [f"train/{number:05}" for number in range(60_000)]
