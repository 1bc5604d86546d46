"""The environment of our processes: what Prefect, MLflow, torch and matplotlib find in it."""

import io
import os
import sys
from pathlib import Path

from mnist_pipeline.config import ROOT, FieldError

ENVIRONMENT = {  # unless it is set already
    "DO_NOT_TRACK": "true",  # Prefect's client and MLflow send no telemetry
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # nor does Prefect's server, whose own locks a new database
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of each run on a tracking server
}
TOKEN = "MNIST_PIPELINE_TOKEN"  # the variable that names what clients of the server must know
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOOPBACK = ("127.0.0.1", "localhost")


def amend_environment() -> None:
    """Amend the environment of this process and its children, before the heavy imports.

    Exit on Windows, where MNIST_PIPELINE_HOME is misspelt, as a new, empty project would be made there, and where a
    database would get another path than its folder's.
    """
    if sys.platform == "win32":
        sys.exit("mnist-pipeline runs on Linux and macOS; on Windows, run it in WSL: https://aka.ms/wslinstall")
    home = os.environ.get("MNIST_PIPELINE_HOME")
    if home and not Path(home).is_dir():
        sys.exit(f"MNIST_PIPELINE_HOME names no folder: {home!r}; correct it, or make the folder first")
    for folder in (str(ROOT), os.environ.get("PREFECT_HOME", "")):
        if odd := misread_letters(folder):
            sys.exit(f"Prefect and MLflow cannot use a path with {odd} in it: rename the folder {folder}")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        Path.home()
    except RuntimeError:  # a user whom the system does not know; Prefect and MLflow ask while they are imported
        os.environ["HOME"] = "/"
    os.environ.pop("MPLBACKEND", None)  # a notebook's cannot be imported here, and figures are only saved
    os.environ["MATPLOTLIBRC"] = os.devnull  # they look the same whatever the user's settings, which may need LaTeX
    os.environ.pop("MLFLOW_REGISTRY_URI", None)  # runs and models are kept in one store, that of the tracking address
    os.environ.pop("WEB_CONCURRENCY", None)  # a hosting service's: each of our servers is one process
    if os.environ.get("COLUMNS", "") in ("1", "2"):
        del os.environ["COLUMNS"]  # --help would never end
    _check_proxies()
    unproxied = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    if unproxied != "*":  # no proxy reaches this machine's own servers
        hosts = dict.fromkeys([*filter(None, unproxied.split(",")), *LOOPBACK])
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)
    _open_standard_streams()


def misread_letters(path: str) -> str:
    """Return the letters of `path` that addresses of SQLite databases are misread by; empty if there are none."""
    return " or ".join(set("%?'") & set(path))


def keep_compiler_cache() -> None:
    """Keep what `--compile` compiles at the project's root, unless TORCHINDUCTOR_CACHE_DIR names another folder.

    To be called before torch is imported, which then settles on one in /tmp. Raises `FieldError` if it has no place.
    """
    folder = Path(os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(ROOT / ".cache" / "inductor")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FieldError("compile", f"needs a folder for the compiler's cache: {error}") from None


def _check_proxies() -> None:
    """Write `socks`, as desktops do, as Prefect's client knows it. Exit if a proxy is one that this cannot use."""
    for name in PROXIES:
        scheme, separator, rest = os.environ.get(name, "").partition("://")
        if separator and scheme.lower() == "socks":
            os.environ[name] = f"socks5://{rest}"
        elif separator and scheme.lower() not in ("http", "https", "socks5", "socks5h"):
            sys.exit(f"{name} names a proxy by {scheme}://, which cannot be used: http, https, socks5 and socks5h can")


def _open_standard_streams() -> None:
    """Open the closed standard streams, whose place the next file would take; escape what an encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode)  # noqa: SIM115  # for as long as the process lives
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
