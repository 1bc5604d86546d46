"""Hostile requests to the real server: it answers all of them, with nothing that begins with 5, in bounded memory."""

import http.client
import io
import json
import os
import random
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.train_flow import Trained
from mnist_pipeline.config import ROOT
from tests.faults.conftest import REQUESTS, SEED
from tests.servers import answers, eventually, free_port

MEMORY = 400 * 2**20  # bytes that the server may grow by
PATIENCE = 30  # seconds in which each request is answered
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,unsupported_method"
Request = tuple[str, str, dict[str, str], bytes]


@pytest.fixture(scope="module")
def server(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[bytes]"]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "--port", str(port), "--model", trained.model.uri, "--log", "--keep", "500"],
        cwd=ROOT,
        env=os.environ | {"MNIST_PIPELINE_HOME": str(tmp_path_factory.mktemp("log"))},
    )
    process.port = port  # type: ignore[attr-defined]
    eventually(lambda: answers(f"http://127.0.0.1:{port}/health"), within=120)
    yield process
    process.terminate()
    process.wait(timeout=30)


def ask(port: int, request: Request) -> int | None:
    """Send a request; give the status of the answer, or None where the server hung up."""
    method, path, headers, body = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        return connection.getresponse().status
    except (ConnectionError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def resident(process: "subprocess.Popen[bytes]") -> int:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.eye(height, width, dtype=np.uint8) * 255).save(file, "PNG")
    return file.getvalue()


PNG = png(40, 40)
BOMBS = [png(7000, 7000), png(1, 30_000), PNG[:16] + (2**31 - 1).to_bytes(4, "big") * 2 + PNG[24:]]
NUMBERS = [
    "0",
    "255",
    "256",
    "-1",
    "1e999",
    "1e308",
    "0.5",
    "NaN",
    "-Infinity",
    "null",
    "true",
    '"7"',
    "[]",
    "{}",
    "9" * 5000,
]


def array(chance: random.Random) -> bytes:
    """An array of about the right form, with a number here and there that is none."""
    sides = [chance.choice([1, 2, 27, 28, 28, 28, 28, 29]) for _ in range(2)]
    rows = [[str(chance.randrange(256)) for _ in range(sides[0])] for _ in range(sides[1])]
    for _ in range(chance.choice([0, 0, 1, 3])):
        chance.choice(rows)[chance.randrange(sides[0])] = chance.choice(NUMBERS)
    if chance.random() < 0.1:
        chance.choice(rows).pop()
    text = "[" + ",".join("[" + ",".join(row) + "]" for row in rows) + "]"
    return ("[" * (deep := chance.choice([0, 0, 1, 2, 500])) + text + "]" * deep).encode()


def mangled(content: bytes, chance: random.Random) -> bytes:
    """The same with some bytes changed, left out or put in."""
    harmed = bytearray(content)
    for _ in range(chance.randrange(8)):
        place = chance.randrange(len(harmed) + 1)
        harmed[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(harmed)


def form(chance: random.Random) -> tuple[str, bytes]:
    boundary = chance.choice(["x", "-" * 70, "x y", ""])
    name = chance.choice(["image", "../../etc/passwd", "\x00", '"', "ä" * 300])
    head = f'Content-Disposition: form-data; name="{name}"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
    part = f"--{boundary}\r\n{head}".encode() + chance.choice([PNG, b"", mangled(PNG, chance)]) + b"\r\n"
    return boundary, part * chance.choice([0, 1, 1, 1, 2, 50]) + f"--{boundary}--\r\n".encode()


def predict(kind: str, body: bytes) -> Request:
    return "POST", "/predict", {"Content-Type": kind}, body


def as_json(chance: random.Random) -> Request:
    return predict("application/json", array(chance))


def as_mangled_json(chance: random.Random) -> Request:
    return predict("application/json", mangled(array(chance), chance))


def as_any_json(chance: random.Random) -> Request:
    def value(depth: int) -> object:
        kind = chance.randrange(7 if depth else 5)
        if kind >= 5:
            parts = [value(depth - 1) for _ in range(chance.randrange(4))]
            return parts if kind == 5 else {str(part)[:5]: part for part in parts}
        return [None, True, chance.uniform(-300, 300), chance.randrange(10 ** chance.randrange(1, 30)), "\ud800"][kind]

    return predict("application/json", json.dumps(value(4)).encode())


def as_picture(chance: random.Random) -> Request:
    return predict(chance.choice(["image/png", "image/jpeg"]), mangled(PNG, chance))


def as_bomb(chance: random.Random) -> Request:
    return predict("image/png", chance.choice(BOMBS))


def as_form(chance: random.Random) -> Request:
    boundary, body = form(chance)
    kind = f"multipart/form-data; boundary={boundary}"
    return predict(kind, body if chance.random() < 0.5 else mangled(body, chance))


def as_noise(chance: random.Random) -> Request:
    kinds = ["application/json", "image/png", "image/jpeg", "multipart/form-data; boundary=x", "text/plain", ""]
    return predict(chance.choice(kinds), chance.randbytes(chance.choice([0, 1, 10, 1000, 100_000])))


def as_packed(chance: random.Random) -> Request:
    method, path, headers, body = as_json(chance)
    return method, path, headers | {"Content-Encoding": "gzip"}, zlib.compress(body)


def as_feedback(chance: random.Random) -> Request:
    """Feedback of about the right form, of an answer that there is not."""
    answer = chance.choice([f"{chance.getrandbits(128):032x}", "", "\ud800", "' OR 1=1 --", "0" * 900, None, ["x"]])
    label = chance.choice(["3", "ten", "", "\ud800", 3, None, "9" * 900])
    body = json.dumps(chance.choice([{"id": answer, "label": label}, {"id": answer}, [answer, label]])).encode()
    headers = {"Content-Type": chance.choice(["application/json", "application/json", "text/plain"])}
    return "POST", "/feedback", headers, body if chance.random() < 0.7 else mangled(body, chance)


def as_any_path(chance: random.Random) -> Request:
    paths = [
        "/",
        "/health",
        "/model",
        "/page.js",
        "/predict",
        "/feedback",
        "/metrics",
        "/ready",
        "/../../etc/passwd",
        "/%2e%2e/%00",
        "//",
        "/" + "a" * 9000,
    ]
    hosts = ["127.0.0.1", "localhost", "evil.example", "", "127.0.0.1.evil.example", "[::1]", "a" * 5000]
    method = chance.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "NONSENSE"])
    return method, chance.choice(paths), {"Host": chance.choice(hosts)}, b""


KINDS: list[Callable[[random.Random], Request]] = [
    as_json,
    as_mangled_json,
    as_any_json,
    as_picture,
    as_form,
    as_noise,
    as_packed,
    as_feedback,
    as_any_path,
]


def test_no_request_breaks_the_server(server: "subprocess.Popen[bytes]", chance: random.Random) -> None:
    port: int = server.port  # type: ignore[attr-defined]
    before = resident(server)
    slowest, most = 0.0, before
    statuses: Counter[int | None] = Counter()
    for number in range(REQUESTS):
        request = as_bomb(chance) if number % 50 == 0 else chance.choice(KINDS)(chance)
        begun = time.monotonic()
        status = ask(port, request)
        slowest = max(slowest, time.monotonic() - begun)
        statuses[status] += 1
        most = max(most, resident(server))
        assert status is None or status < 500, request
    assert server.poll() is None
    assert ask(port, predict("image/png", PNG)) == 200
    assert statuses[200] > REQUESTS / 50  # it was asked things that it can answer, too
    grown = (most - before) / 2**20
    print(f"{REQUESTS:,} requests: {dict(statuses)}; slowest {slowest:.1f} s, memory grown by {grown:.0f} MiB")
    assert most - before < MEMORY


def test_no_request_made_of_its_own_description_breaks_the_server(
    server: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """Schemathesis makes requests that fit the OpenAPI description, and such as almost do."""
    port: int = server.port  # type: ignore[attr-defined]
    words = ["run", f"http://127.0.0.1:{port}/openapi.json", "--max-response-time", str(PATIENCE), "--checks", CHECKS]
    command = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [command, *words, "--max-examples", str(REQUESTS // 2), "--seed", str(SEED), "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    print(done.stdout[-600:])
    assert done.returncode == 0, done.stdout
    assert ask(port, predict("image/png", PNG)) == 200


def test_what_is_not_even_http_does_not_break_it(server: "subprocess.Popen[bytes]", chance: random.Random) -> None:
    port: int = server.port  # type: ignore[attr-defined]
    for _ in range(REQUESTS // 20):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            begin = chance.choice(
                [b"", b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n", b"GET /"]
            )
            connection.sendall(begin + chance.randbytes(chance.randrange(200)))
    assert ask(port, predict("image/png", PNG)) == 200
