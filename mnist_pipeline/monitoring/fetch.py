"""The logs of servers: files, or handed out by a server to those with its token."""

import contextlib
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

from mnist_pipeline.environment import TOKEN
from mnist_pipeline.monitoring.log import ServedLog
from mnist_pipeline.text import printable

SILENCE_TIMEOUT = 30  # seconds without a byte, after which a server is given up
FETCH_TIMEOUT = 300  # seconds until all of a log must be there


def is_address(place: str) -> bool:
    """Return whether `place` is a server's address, rather than a file.

    Raises `ValueError` for an address that cannot be used.
    """
    if not place.lower().startswith(("http://", "https://")):
        return False
    try:
        user = urlsplit(place).username
    except ValueError as error:
        raise ValueError(f"{printable(place)} is no address of a server: {error}") from None
    if user is not None:
        raise ValueError(f"an address takes no user or password: give a server's token in {TOKEN}")
    return True


@contextlib.contextmanager
def existing_log(place: str) -> Iterator[ServedLog]:
    """Open a log that is there: a file, or a copy of what the server at an address has kept.

    Raises `ValueError` if there is none, and `OSError` if it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        file = Path(place)
        if is_address(place):
            file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "served.db"
            _fetch(place, file)
        if not file.is_file() or not file.stat().st_size:
            raise ValueError(f"there is no log {file}: make serve ARGS=--log writes one, and --log names another")
        try:
            yield stack.enter_context(contextlib.closing(ServedLog(file, name=printable(place))))
        except sqlite3.Error as error:
            remedy = "try again, or copy it: sqlite3 served.db '.backup copy.db'"
            if "readonly" in str(error):
                remedy = "it must be writable to you: copy it to a folder of your own, or be the server's user"
            raise OSError(f"the log {place} cannot be used ({error}): {remedy}") from None


def _fetch(address: str, file: Path) -> None:
    token = os.environ.get(TOKEN, "")
    if not re.fullmatch(r"[!-~]*", token):
        raise ValueError(f"{TOKEN} must be letters, digits and signs, without spaces")
    request = Request(f"{address.rstrip('/')}/log", headers={"Authorization": f"Bearer {token}"})
    remedies = {
        401: f"set {TOKEN} to its token",
        404: 'start it with make serve ARGS="--log --share-log"',
        503: "the log is in use: try again",
    }
    opener = OpenerDirector()  # without redirects: the token goes to the server that was named, and nowhere else
    for handler in (HTTPHandler, HTTPSHandler, HTTPErrorProcessor, HTTPDefaultErrorHandler):
        opener.add_handler(handler())
    try:
        deadline = time.monotonic() + FETCH_TIMEOUT
        with opener.open(request, timeout=SILENCE_TIMEOUT) as response, file.open("wb") as copy:
            while part := response.read1(2**16):
                copy.write(part)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {FETCH_TIMEOUT} seconds")
            if not copy.tell() or str(copy.tell()) != response.headers.get("Content-Length"):
                raise OSError(f"{copy.tell():,} bytes came, and then no more")
    except HTTPError as error:
        remedy = remedies.get(error.code, "is it the address of a server of this project?")
        raise ValueError(f"{printable(address)} does not hand out its log ({error.code}): {remedy}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise OSError(f"the log of {printable(address)} cannot be fetched ({reason}): is the server up?") from None
