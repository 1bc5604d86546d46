"""Latency of the server: one image 50 times a second, whether or not the previous request has been answered.

.venv/bin/python benchmarks/serve.py            the server on one core, this program on the others, for 20 seconds
"""

import asyncio
import gzip
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import aiohttp
import numpy as np
from PIL import Image

from mnist_pipeline.config import ROOT
from mnist_pipeline.data.mnist import BUNDLED

RATE, SECONDS = 50, 20


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


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})  # for the server to inherit
    server = subprocess.Popen([sys.executable, "-m", "serving", "--port", str(port)], cwd=ROOT)
    os.sched_setaffinity(0, cores - {max(cores)} or cores)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except OSError:
                if server.poll() is not None:
                    sys.exit("the server did not start")
                time.sleep(0.2)
        for what, (body, kind) in bodies().items():
            latencies = 1000 * np.array(asyncio.run(load(f"http://127.0.0.1:{port}/predict", body, kind)))
            figures = ", ".join(f"p{q} {np.percentile(latencies, q):.1f}" for q in (50, 95, 99))
            print(f"{what}: {figures}, max {latencies.max():.1f} ms over {len(latencies):,} requests")
    finally:
        server.terminate()
        server.wait()
