"""Latency of the server: one image 50 times a second, whether or not the previous request has been answered.

.venv/bin/python benchmarks/serve.py [ROUNDS]   servers without and with a log on one core, this on the others

Each round sends each kind of image to each server for 10 seconds, in turn; the default is 3.
"""

import asyncio
import contextlib
import gzip
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

from mnist_pipeline.config import CODE, ROOT
from mnist_pipeline.data.mnist import BUNDLED

RATE, SECONDS = 50, 10
CORES = os.sched_getaffinity(0)


def bodies() -> dict[str, tuple[bytes, str]]:
    holdout = gzip.decompress((BUNDLED / "t10k-images-idx3-ubyte.gz").read_bytes())
    digit = np.frombuffer(holdout, np.uint8, 784, 16).reshape(28, 28)
    drawn = io.BytesIO()
    Image.fromarray(digit).resize((280, 280)).save(drawn, "PNG")
    return {
        "a JSON array": (json.dumps(digit.tolist()).encode(), "application/json"),
        "a PNG of 280×280": (drawn.getvalue(), "image/png"),
    }


async def load(url: str, body: bytes, kind: str) -> list[float]:
    latencies = []
    async with aiohttp.ClientSession() as client:

        async def ask(due: float) -> None:
            await asyncio.sleep(due - time.perf_counter())
            async with client.post(url, data=body, headers={"content-type": kind}) as response:
                await response.read()
                latencies.append(time.perf_counter() - due)  # from when it was due: waiting behind others counts
                assert response.status == 200

        for _ in range(20):
            async with client.post(url, data=body, headers={"content-type": kind}) as response:
                await response.read()
        start = time.perf_counter() + 0.2
        await asyncio.gather(*(ask(start + number / RATE) for number in range(RATE * SECONDS)))
    return latencies


@contextlib.contextmanager
def served(*options: str) -> Iterator[tuple[str, int]]:
    """Serve on the last core; yield the URL and the process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "serving", "--port", str(port), *options]
    with tempfile.TemporaryDirectory() as home:  # of the log
        tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{ROOT}/mlflow.db"} | os.environ
        server = subprocess.Popen(command, cwd=CODE, env=tracking | {"MNIST_PIPELINE_HOME": home})
        os.sched_setaffinity(server.pid, {max(CORES)})
        try:
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ready").close()
                    break
                except OSError:
                    if server.poll() is not None:
                        sys.exit("the server did not start")
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/predict", server.pid
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken; that of a request is steady on a busy machine, too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(rounds: int) -> None:
    os.sched_setaffinity(0, CORES - {max(CORES)} or CORES)
    latencies: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    cpu: Counter[tuple[str, str]] = Counter()
    with served() as without, served("--log") as logging:
        for _ in range(rounds):
            for what, (body, kind) in bodies().items():
                for which, (url, pid) in (("without a log", without), ("with a log", logging)):
                    begun = cpu_seconds(pid)
                    latencies[what, which].append(1000 * np.array(asyncio.run(load(url, body, kind))))
                    cpu[what, which] += 1000 * (cpu_seconds(pid) - begun)
    for (what, which), parts in latencies.items():
        figures = ", ".join(f"p{q} {np.percentile(np.concatenate(parts), q):.1f}" for q in (50, 95, 99))
        each = ", ".join(f"{np.percentile(part, 99):.1f}" for part in parts)
        count = sum(map(len, parts))
        print(f"{what}, {which}: {figures} ms over {count:,} requests; p99 of each round {each}; ", end="")
        print(f"{cpu[what, which] / count:.2f} ms of CPU time each, polling included")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
