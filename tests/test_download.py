"""The download task tries the network again, and nothing else."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import FashionMNIST

from mnist_pipeline.config import DataSource
from mnist_pipeline.data import DownloadError
from tasks.download import download

RETRYING = download.with_options(retries=1, retry_delay_seconds=0)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A mirror that has nothing: its URL, and the paths that it was asked for."""
    paths: list[str] = []

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def test_a_mirror_that_fails_is_asked_again(
    prefect_api: str, asked: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, paths = asked
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    with pytest.raises(DownloadError, match="HTTP Error 404"):
        RETRYING(DataSource(dataset="fashion-mnist", data_dir=tmp_path, mirror=url))
    assert paths == ["/train-images-idx3-ubyte.gz"] * 2


def test_a_data_folder_that_is_a_file_is_told_at_once(
    prefect_api: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        RETRYING(DataSource(data_dir=tmp_path / "file"))
    assert "Retry" not in caplog.text
