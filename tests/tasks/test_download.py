"""The download task retries what the network may have caused, and nothing else."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from torchvision.datasets import FashionMNIST

from mnist_pipeline.data.mnist import DownloadError
from mnist_pipeline.data.source import DataSource
from tasks.download import download
from tests.servers import listening

RETRYING = download.with_options(retries=1, retry_delay_seconds=0)


@pytest.fixture
def empty_mirror() -> Iterator[tuple[str, list[str]]]:
    """The URL of a mirror that has nothing, and the paths that were requested."""
    requested: list[str] = []

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Mirror) as url:
        yield url, requested


def test_a_mirror_that_fails_is_tried_again(
    prefect_api: str, empty_mirror: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, requested = empty_mirror
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    with pytest.raises(DownloadError, match="HTTP Error 404"):
        RETRYING(DataSource(dataset="fashion-mnist", data_dir=tmp_path, mirror=url))
    assert requested == ["/train-images-idx3-ubyte.gz"] * 2


def test_a_data_folder_that_is_a_file_is_an_error_at_once(
    prefect_api: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        RETRYING(DataSource(data_dir=tmp_path / "file"))
    assert "Retry" not in caplog.text
