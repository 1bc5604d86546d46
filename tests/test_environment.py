"""Whatever the environment brings along, the commands work."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import httpx
import pytest

from mnist_pipeline.config import ROOT, FieldError
from mnist_pipeline.environment import amend_environment, keep_compiler_cache
from mnist_pipeline.tracking.ledger import user_name

DEAD = "127.0.0.1:9"  # where nothing listens


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": f"http://{DEAD}", "http_proxy": f"http://{DEAD}"},
        {"ALL_PROXY": f"socks5://{DEAD}", "NO_PROXY": "example.com"},
        {"ALL_PROXY": f"socks://{DEAD}/"},
    ],
    ids=["http", "socks", "desktop"],
)
def test_this_machines_own_servers_are_reached_without_a_proxy(
    proxies: dict[str, str], prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ({"no_proxy": "", "NO_PROXY": ""} | proxies).items():
        monkeypatch.setenv(name, value)
    if "NO_PROXY" in proxies:
        monkeypatch.delenv("no_proxy")
    amend_environment()
    assert httpx.get(f"{prefect_api}/health", timeout=60).json() is True
    with urlopen(f"{prefect_api}/health") as response:
        assert response.status == 200
    assert os.environ["NO_PROXY"].startswith(proxies.get("NO_PROXY", "127.0.0.1"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MPLBACKEND", "module://matplotlib_inline.backend_inline"),
        ("WEB_CONCURRENCY", "abc"),
        ("MLFLOW_REGISTRY_URI", "sqlite:///other.db"),
    ],
)
def test_what_a_notebook_a_hosting_service_or_another_project_sets_is_left_out(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    amend_environment()
    assert name not in os.environ


def test_a_proxy_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks4://me:secret@proxy:1080")
    with pytest.raises(
        SystemExit, match=r"^https_proxy names a proxy by socks4://, which cannot be used: http, .* can$"
    ):
        amend_environment()


def test_windows_is_one_line_that_names_wsl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match=r"on Windows, run it in WSL"):
        amend_environment()


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_misspelt_home_is_one_line_and_is_not_made(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "hmoe"
    if kind == "file":
        home.touch()
    monkeypatch.setenv("MNIST_PIPELINE_HOME", str(home))
    with pytest.raises(SystemExit, match=r"^MNIST_PIPELINE_HOME names no folder: '.*hmoe'; correct it, or make"):
        amend_environment()
    assert home.exists() == (kind == "file")


def test_a_home_of_prefects_that_its_database_would_misread_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/what?/prefect")
    with pytest.raises(SystemExit, match=r"a path with \? in it: rename the folder /what\?/prefect"):
        amend_environment()


def test_a_user_without_a_name_is_known_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert user_name() == "uid 54321"


def test_a_user_whom_the_system_does_not_know_has_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    amend_environment()
    assert Path.home() == Path("/")


def close_streams() -> None:
    for number in range(3):
        os.close(number)


SET = """
import os
import flows

print(*(os.environ[name] for name in ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_HOME")))
"""


def test_a_flow_that_is_called_from_python_sends_no_telemetry_and_has_the_projects_database(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT"))}
    environment = own | {"MNIST_PIPELINE_HOME": str(tmp_path)}
    shown = subprocess.run([sys.executable, "-c", SET], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert shown.stdout.split() == ["true", "false", str(tmp_path / ".prefect")]


@pytest.mark.parametrize(("options", "made"), [(["--compile"], True), ([], False)])
def test_the_compilers_cache_is_the_projects_before_torch_is_imported(
    options: list[str], made: bool, tmp_path: Path
) -> None:
    code = "import sys; from flows import cli; cli.start(cli.train); print('torch' in sys.modules)"
    own = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    command = [sys.executable, "-c", code, *options]
    environment = own | {"MNIST_PIPELINE_HOME": str(tmp_path), "PREFECT_API_URL": f"http://{DEAD}/api"}
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert shown.stdout.strip() == "False", shown.stderr
    assert (tmp_path / ".cache" / "inductor").is_dir() == made


def test_a_compilers_cache_that_has_no_place_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(FieldError, match=r"compile needs a folder for the compiler's cache: .*file"):
        keep_compiler_cache()


STREAMS = """
import os, sys
from mnist_pipeline.environment import amend_environment

amend_environment()
print("→")
sys.exit(os.open(os.devnull, os.O_RDONLY) < 3)
"""


@pytest.mark.parametrize("prepare", [close_streams, None], ids=["closed", "latin-1"])
def test_standard_streams_may_be_closed_or_lack_a_letter(prepare: Callable[[], None] | None) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-c", STREAMS]
    result = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, preexec_fn=prepare, timeout=60)
    assert result.returncode == 0
    assert result.stdout == (b"" if prepare else rb"\u2192" + b"\n")


def test_the_options_are_explained_without_docstrings() -> None:
    command = [sys.executable, "-OO", str(ROOT / "flows" / "train_flow.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert "Passes over the training images." in " ".join(shown.split())


def test_an_installed_package_keeps_its_state_in_the_current_folder_or_a_named_one(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "mnist_pipeline"
    package.mkdir(parents=True)
    for name in ("__init__.py", "config.py"):
        (package / name).write_text((ROOT / "mnist_pipeline" / name).read_text())

    def root(**environment: str) -> str:
        command = [sys.executable, "-c", "from mnist_pipeline.config import ROOT; print(ROOT)"]
        own = os.environ | {"PYTHONPATH": str(package.parent)} | environment
        return subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, check=True, text=True).stdout.strip()

    assert root() == str(tmp_path)
    assert root(MNIST_PIPELINE_HOME="state") == str(tmp_path / "state")
