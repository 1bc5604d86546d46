"""Images are read in chunks from whatever holds them, and damaged files are refused."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_pipeline.config import FieldError
from mnist_pipeline.data import readers
from mnist_pipeline.data.schema import Schema
from tests.data.files import idx, random_pixels, write_pictures

PIXELS = random_pixels(25, 28, 28)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + bytes(784)


def write_as_kaggle(file: Path) -> None:
    file.mkdir()
    (file / file.name).write_bytes(gzip.compress(idx(PIXELS)))


WRITERS: dict[str, Callable[[Path], object]] = {
    "idx3-ubyte": lambda file: file.write_bytes(idx(PIXELS)),
    "idx3-ubyte.gz": lambda file: file.write_bytes(gzip.compress(idx(PIXELS))),
    "images.npy": lambda file: np.save(file, PIXELS),
    "train.idx3-ubyte": write_as_kaggle,
}


@pytest.mark.parametrize("name", WRITERS)
def test_images_are_read_in_order_and_in_chunks(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    chunks = [*readers.chunks(tmp_path / name, size=10)]
    assert [chunk.names for chunk in chunks] == [range(10), range(10, 20), range(20, 25)]
    assert (np.concatenate([chunk.images for chunk in chunks]) == PIXELS).all()


@pytest.mark.parametrize("name", ["images.npy", "train.idx3-ubyte"])
def test_what_is_for_pictures_is_refused_for_files_of_arrays(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    with pytest.raises(FieldError, match="is for pictures"):
        next(readers.chunks(tmp_path / name, split=True))


def test_a_folders_unreadable_pictures_are_listed_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("b.png", "sub/c.JPG", "e.jpeg", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS[0]).resize((90, 90)).save(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "d.png").write_bytes((tmp_path / "b.png").read_bytes()[:99])
    (tmp_path / "notes.txt").write_text("not looked at")
    first, second, third = readers.chunks(tmp_path, size=2)
    assert [*first.names, *second.names, *third.names] == ["b.png", "e.jpeg", "sub/c.JPG"]
    assert [*first.unreadable, *second.unreadable] == ["a.png", "d.png"]
    assert first.images.shape == (1, 28, 28)


def test_hidden_folders_and_the_thumbnails_of_a_nas_are_left_alone(tmp_path: Path) -> None:
    hidden = (".ipynb_checkpoints", "sub/.cache", "@eaDir/a.png", "@Recycle", "__MACOSX", "$RECYCLE.BIN", "lost+found")
    for folder in (".", *hidden):
        write_pictures(tmp_path / folder, PIXELS[:1])
    (chunk,) = readers.chunks(tmp_path)
    assert chunk.names == ["000.png"]


def test_links_to_folders_are_followed_and_each_folder_is_read_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "store", PIXELS[:2])
    write_pictures(tmp_path / "in", PIXELS[2:4])
    (tmp_path / "in" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "around").symlink_to(tmp_path / "in")
    (chunk,) = readers.chunks(tmp_path / "in")
    assert chunk.names == ["000.png", "001.png", "more/000.png", "more/001.png"]
    assert chunk.left_out == {"links to folders that are read already": 1}


def test_what_is_not_read_is_counted_once(tmp_path: Path) -> None:
    write_pictures(tmp_path, PIXELS[:3])
    for name in ("a.gif", "b.GIF", "c.heic", "notes.txt"):
        (tmp_path / name).touch()
    pages = [Image.fromarray(page) for page in PIXELS[:3]]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "scan2.jpg", "PNG", save_all=True, append_images=pages[1:])  # an animated one
    first, *others = readers.chunks(tmp_path, size=1)
    assert first.left_out == {".gif files, which are not read": 2, ".heic files, which are not read": 1}
    assert [chunk.left_out for chunk in others] == [{}, {}] + 2 * [{"files of which the first page alone is read": 1}]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open any folder")
def test_a_folder_that_cannot_be_opened_is_counted_by_name(tmp_path: Path) -> None:
    write_pictures(tmp_path, PIXELS[:1])
    (tmp_path / "locked").mkdir(mode=0)
    (chunk,) = readers.chunks(tmp_path)
    assert chunk.left_out == {f"{tmp_path}/locked, which cannot be opened (Permission denied)": 1}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write_pictures(tmp_path, PIXELS[:1])
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to("nowhere")
    (chunk,) = readers.chunks(tmp_path)
    assert (chunk.names, chunk.left_out) == (["000.png"], {"pipes and broken links": 2})
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        list(readers.chunks(tmp_path / "pipe.png"))


def test_names_that_are_not_utf8_stay_apart(tmp_path: Path) -> None:
    write_pictures(tmp_path, PIXELS[:1])
    for name in (b"\xff.png", b"\xfe.png"):
        os.link(tmp_path / "000.png", os.fsencode(tmp_path) + b"/" + name)
    (chunk,) = readers.chunks(tmp_path)
    assert chunk.names == ["000.png", r"\xfe.png", r"\xff.png"]


def test_a_name_cannot_steer_the_terminal_that_shows_it(tmp_path: Path) -> None:
    write_pictures(tmp_path, PIXELS[:1])
    (tmp_path / "000.png").rename(tmp_path / "\x1b[1mb.png")
    (tmp_path / "\x1b[2Ja.png").touch()
    (chunk,) = readers.chunks(tmp_path)
    assert (chunk.names, [*chunk.unreadable]) == ([r"\x1b[1mb.png"], [r"\x1b[2Ja.png"])


def test_each_pictures_warning_is_kept_with_it(tmp_path: Path) -> None:
    blank, bar = Image.new("L", (90, 90), 240), Image.new("L", (90, 90), 240)
    bar.paste(20, (40, 20, 50, 70))
    blank.save(tmp_path / "blank.png")
    bar.save(tmp_path / "one.png")
    (chunk,) = readers.chunks(tmp_path)
    assert chunk.warnings == ["no ink stands out", ""]


def test_the_steps_to_an_image_are_drawn_into_a_folder_outside_the_pictures(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(PIXELS[0]).resize((90, 90)).save(tmp_path / "in" / "sub" / "c.JPG")
    list(readers.chunks(tmp_path / "in", explain=tmp_path / "steps"))
    with Image.open(tmp_path / "steps" / "sub" / "c.JPG.png") as strip:
        assert strip.width > 5 * strip.height
    with pytest.raises(FieldError, match="explain must be a folder outside"):
        list(readers.chunks(tmp_path / "in", explain=tmp_path / "in" / "steps"))
    with pytest.raises(FieldError, match="explain must be a new or an existing folder"):
        list(readers.chunks(tmp_path / "in", explain=tmp_path / "steps" / "sub" / "c.JPG.png"))


def test_pictures_of_any_name_are_explained_and_told_apart(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    names = [f"{'x' * 250}.png", "a\nb.png", r"a\nb.png"]
    for name in names:
        Image.fromarray(PIXELS[0]).save(tmp_path / "in" / name)
    (chunk,) = readers.chunks(tmp_path / "in", explain=tmp_path / "steps")
    assert {*chunk.names} == {names[0], r"a\nb.png", r"a\\nb.png"}
    assert len([*(tmp_path / "steps").iterdir()]) == 3


def test_an_array_is_neither_split_nor_explained(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    with pytest.raises(FieldError, match="split is for pictures"):
        list(readers.chunks(tmp_path / "images.npy", split=True))
    with pytest.raises(FieldError, match="explain is for pictures"):
        list(readers.chunks(tmp_path / "images.npy", explain=tmp_path))


def test_a_single_picture_is_read_under_its_name(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "digit.png")
    (chunk,) = readers.chunks(tmp_path / "digit.png")
    assert chunk.names == ["digit.png"]


def test_pictures_become_images_of_the_schemas_size(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "pet.png")
    (chunk,) = readers.chunks(tmp_path, Schema(("cat", "dog"), 12, 10, "resized"))
    assert chunk.images.shape == (1, 12, 10)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "neither an IDX nor an .npy"),
        (b"words", "neither an IDX nor an .npy"),
        (b"\0\0\x08\x03\0\0", "header is damaged"),
        (idx(PIXELS)[:-1], "cut off"),
        (idx(PIXELS) + b"\0", "longer than the 25 images"),
        (idx(PIXELS[:0]), "no images"),
        (idx(PIXELS[:, 0, 0]), r"not uint8 \(25,\)"),
        (idx(PIXELS[:, :14]), r"not uint8 \(25, 14, 28\)"),
        (gzip.compress(idx(PIXELS, count=26), mtime=0), "cut off"),
        (gzip.compress(idx(PIXELS))[:-20], "damaged"),
        (gzip.compress(idx(PIXELS))[:300] + b"damage" + gzip.compress(idx(PIXELS))[306:], "damaged"),
        (b"\x93NUMPY\x07\x00\x04\x00{}\n ", "damaged header"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (" + 3000 * "("), "damaged header"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28)}"), "no images"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(30_000), "damaged header"),  # says that it is 4 GB long
        (gzip.compress(b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(30_000), mtime=0), "damaged header"),
        (idx(PIXELS, count=2**32 - 1), "cut off"),
        (gzip.compress(idx(PIXELS, count=2**32 - 1), mtime=0), "cut off"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        list(readers.chunks(tmp_path / "images"))


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (PIXELS / 255, "not float64"),
        (PIXELS[0], r"not uint8 \(28, 28\)"),
        (np.array([{}]), "not object"),
        (np.asfortranarray(PIXELS), "ascontiguousarray"),
    ],
)
def test_an_array_of_another_type_shape_or_order_is_refused(images: np.ndarray, problem: str, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(ValueError, match=problem):
        list(readers.chunks(tmp_path / "images.npy"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"\0\0\x08\x03" + b"\0\0\xff\xff" * 3, "of 4,294,967,296 at most"),
        (b"\0\0\x08\xff" + b"\xff\xff\xff\xff" * 255, "of 4,294,967,296 at most"),
        (b"\0\0\x08\x03" + b"\0\0\x04\0" * 3, "is damaged: its header promises"),
    ],
)
def test_an_array_to_train_on_is_never_larger_than_its_file_can_hold(
    header: bytes, problem: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "images").write_bytes(pack(header + bytes(1000)))
    with pytest.raises(ValueError, match=problem):
        readers.read_idx(tmp_path / "images")


def test_an_empty_folder_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    with pytest.raises(
        ValueError, match=r"no images in .*: the file types read are .*; .heic files, which are not read: 1"
    ):
        list(readers.chunks(tmp_path))
    with pytest.raises(ValueError, match=r"there is no .*nowhere"):
        list(readers.chunks(tmp_path / "nowhere"))
