"""Mirrors that misbehave and files that are damaged: repaired or reported, in bounded time, and never trusted."""

import functools
import io
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import MNIST

from mnist_pipeline.data import mnist
from mnist_pipeline.data.mnist import BUNDLED, DownloadError
from mnist_pipeline.data.pictures.preprocessing import FILE_FORMATS
from mnist_pipeline.data.readers import read_pictures
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.source import DataSource
from tests.data.files import exif
from tests.faults.conftest import REQUESTS, SEED, read_only

NAMES = [name for name, _ in MNIST.resources]


class Mirror(BaseHTTPRequestHandler):
    """Misbehaves in the way that the first part of the path says."""

    def do_GET(self) -> None:
        _, way, name = self.path.split("/")
        whole = (BUNDLED / name).read_bytes()
        if way in ("404", "500"):
            self.send_error(int(way))
        elif way == "circle":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
        elif way == "silence":
            time.sleep(30)
        else:
            self.send_response(200)
            if way != "endless":
                self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            getattr(self, way)(whole)

    def half(self, whole: bytes) -> None:
        self.wfile.write(whole[: len(whole) // 2])

    def wrong(self, whole: bytes) -> None:
        self.wfile.write(whole[:-1] + bytes([whole[-1] ^ 1]))

    def page(self, whole: bytes) -> None:
        self.wfile.write(b"<html>Sign in to this network</html>".ljust(len(whole)))

    def drip(self, whole: bytes) -> None:
        for byte in whole:
            self.wfile.write(bytes([byte]))
            time.sleep(0.1)

    def endless(self, _whole: bytes) -> None:
        while True:
            self.wfile.write(bytes(2**20))

    def log_message(self, *_: object) -> None:
        pass


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Callable[..., BaseHTTPRequestHandler]], str]]:
    servers = []

    def start(handler: Callable[..., BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that have had enough
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.socket.close()


@pytest.fixture(scope="module")
def bad(serve: Callable[..., str]) -> str:
    return serve(Mirror)


@pytest.fixture(scope="module")
def good(serve: Callable[..., str]) -> str:
    return serve(functools.partial(Quiet, directory=str(BUNDLED)))


WAYS = ["404", "500", "circle", "silence", "half", "wrong", "page", "drip", "endless"]


@pytest.mark.parametrize("way", WAYS)
def test_a_bad_mirror_is_reported_and_the_next_one_is_used(
    way: str, bad: str, good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "SILENCE_TIMEOUT", 1)
    monkeypatch.setattr(mnist, "DOWNLOAD_TIMEOUT", 2)
    monkeypatch.setattr(mnist, "BUNDLED", tmp_path / "nowhere")
    monkeypatch.setattr(MNIST, "mirrors", [])
    source = DataSource(data_dir=tmp_path, mirror=f"{bad}/{way}")
    begun = time.monotonic()
    with pytest.raises(DownloadError, match="name a mirror that has it"):
        mnist.download(source)
    assert time.monotonic() - begun < 20
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in ([], [".lock"])

    monkeypatch.setattr(MNIST, "mirrors", [good])
    folder = mnist.download(source)
    assert len(mnist.read("mnist", folder)[1][0]) == 60_000


def test_no_mirror_at_all_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "BUNDLED", tmp_path / "nowhere")
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DownloadError, match="Connection refused") as told:
        mnist.download(DataSource(data_dir=tmp_path))
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("name", [NAMES[0], NAMES[3], NAMES[0].removesuffix(".gz"), NAMES[3].removesuffix(".gz")])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "gone"])
def test_a_damaged_file_is_found_and_fetched_again(name: str, harm: str, files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(files, tmp_path / "MNIST" / "raw")
    content = bytearray((folder / name).read_bytes())
    half = len(content) // 2
    content[half] ^= 1
    (folder / name).unlink()
    if harm != "gone":
        (folder / name).write_bytes({"cut": content[:half], "flip": content, "empty": bytearray()}[harm])
    assert mnist.download(DataSource(data_dir=tmp_path)) == folder
    for each in folder.iterdir():
        assert each.name == ".lock" or each.read_bytes() == (files / each.name).read_bytes()


def test_a_folder_in_place_of_a_file_is_reported(files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(files, tmp_path / "MNIST" / "raw")
    (folder / NAMES[0]).unlink()
    (folder / NAMES[0]).mkdir()
    with pytest.raises(OSError, match=NAMES[0]):
        mnist.download(DataSource(data_dir=tmp_path))


def test_a_read_only_folder_is_enough_while_its_files_are_whole(files: Path, tmp_path: Path) -> None:
    source = DataSource(data_dir=tmp_path)
    folder = shutil.copytree(files, tmp_path / "MNIST" / "raw")
    with read_only(tmp_path):
        assert len(mnist.read("mnist", mnist.download(source))[1][0]) == 60_000
    (folder / NAMES[0]).write_bytes(b"")
    with read_only(tmp_path), pytest.raises(OSError, match="Read-only file system"):
        mnist.download(source)
    assert len(mnist.read("mnist", mnist.download(source))[1][0]) == 60_000


def test_mutated_pictures_are_read_or_left_out(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    disc = Image.radial_gradient("L").resize((40, 60))
    pictures = []
    for suffix, file_format in FILE_FORMATS.items():
        for mode in ("L", "RGB"):
            file = io.BytesIO()
            block = exif(6, (0x110, 2, 4, b"abc")) if file_format in ("PNG", "JPEG", "WEBP") else b""
            disc.convert(mode).save(file, file_format, **({"exif": block} if block else {}))
            pictures.append((suffix, file.getvalue()))
    for _ in range(REQUESTS):
        suffix, whole = draw.choice(pictures)
        content = bytearray(whole)
        for _ in range(draw.choice([1, 2, 8])):
            content[draw.randrange(draw.choice([64, len(content)]))] = draw.choice([0, 255, draw.randrange(256)])
        (tmp_path / f"a{suffix}").write_bytes(content)
        read = read_pictures([tmp_path / f"a{suffix}"], tmp_path, Schema())
        assert len(read.names) + len(read.unreadable) == 1
