"""What tests share that start servers and wait for what comes of them."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen


def free_ports(count: int) -> list[int]:
    """Give ports of the loopback on which nothing listens, each another."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def free_port() -> int:
    (port,) = free_ports(1)
    return port


def answers(url: str) -> bool:
    """Say whether a server is up: it answers, and not with an error."""
    try:
        with urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except OSError:  # which urllib's errors are
        return False


def children(pid: int) -> list[int]:
    """Give the processes that the main thread of another has started."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def eventually(holds: Callable[[], object], *, within: float = 60, every: float = 0.05) -> None:
    """Wait until `holds` does, for so many seconds at most, looking `every` so many."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(every)
