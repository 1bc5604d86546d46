"""The loop closed: serve, correct, watch, review, retrain, and be read better by the version that takes over.

python examples/loop.py [HOME]      keeps runs, models and the log in HOME

Two hundred digits are drawn in a hand unlike MNIST's: it leans to the left, its zeros have a slash, its ones a flag and
a foot, its sevens a bar. Each command is shown before it is run, as it could be typed. Nothing is downloaded.
"""

import contextlib
import csv
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import cyclopts
import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ["--recipe", "fast"]
LONGER = [*RECIPE, "--epochs", "10"]  # with more to learn, and so that the gate can tell that it is no worse
DRAWINGS = 10  # of each digit, each a little different
Point = tuple[float, float]  # across and down, from 0 to 1


def arc(centre: Point, radii: Point, start: float, end: float) -> list[Point]:
    """Return a part of an ellipse, in degrees clockwise from the right."""
    angles = np.radians(np.linspace(start, end, 24))
    return [(centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)) for angle in angles]


def hand() -> list[tuple[str, list[list[Point]]]]:
    """Return twenty digits, two of each, as strokes."""
    ring = arc((0.5, 0.5), (0.24, 0.38), 0, 360)
    return [
        ("0", [ring, [(0.74, 0.12), (0.26, 0.88)]]),
        ("0", [ring, [(0.2, 0.8), (0.8, 0.2)]]),
        ("1", [[(0.2, 0.45), (0.52, 0.12), (0.52, 0.88)], [(0.25, 0.88), (0.78, 0.88)]]),
        ("1", [[(0.15, 0.5), (0.55, 0.12), (0.5, 0.88)], [(0.3, 0.88), (0.7, 0.88)]]),
        ("2", [[(0.22, 0.14), (0.76, 0.14), (0.24, 0.86), (0.8, 0.86)]]),
        ("2", [[(0.22, 0.16), (0.74, 0.14), (0.26, 0.86), (0.78, 0.84)], [(0.32, 0.5), (0.68, 0.5)]]),
        ("3", [[(0.25, 0.14), (0.74, 0.14), (0.46, 0.44)], arc((0.46, 0.66), (0.27, 0.22), -90, 140)]),
        ("3", [[(0.22, 0.12), (0.76, 0.12), (0.42, 0.46), (0.76, 0.62), (0.62, 0.86), (0.24, 0.86)]]),
        ("4", [[(0.56, 0.1), (0.18, 0.62), (0.82, 0.62)], [(0.6, 0.42), (0.6, 0.9)]]),
        ("4", [[(0.3, 0.12), (0.22, 0.5), (0.78, 0.5)], [(0.7, 0.12), (0.66, 0.9)]]),
        ("5", [[(0.76, 0.12), (0.3, 0.12), (0.28, 0.44), (0.7, 0.46), (0.72, 0.84), (0.24, 0.86)]]),
        ("5", [[(0.3, 0.12), (0.28, 0.46)], arc((0.44, 0.64), (0.28, 0.22), -120, 140), [(0.3, 0.1), (0.8, 0.1)]]),
        ("6", [[(0.66, 0.08), (0.34, 0.5)], arc((0.5, 0.68), (0.22, 0.2), 0, 360)]),
        ("6", [[(0.3, 0.1), (0.28, 0.7)], arc((0.5, 0.7), (0.22, 0.18), 0, 360)]),
        ("7", [[(0.2, 0.22), (0.22, 0.12), (0.8, 0.12), (0.4, 0.9)], [(0.34, 0.5), (0.78, 0.5)]]),
        ("7", [[(0.18, 0.14), (0.82, 0.12), (0.3, 0.9)], [(0.3, 0.44), (0.76, 0.54)]]),
        ("8", [arc((0.5, 0.28), (0.2, 0.18), 0, 360), arc((0.5, 0.7), (0.24, 0.2), 0, 360)]),
        ("8", [[(0.26, 0.14), (0.74, 0.86), (0.26, 0.86), (0.74, 0.14), (0.26, 0.14)]]),
        ("9", [arc((0.48, 0.32), (0.22, 0.22), 0, 360), [(0.7, 0.3), (0.7, 0.7)], arc((0.5, 0.7), (0.2, 0.2), 0, 150)]),
        ("9", [arc((0.5, 0.3), (0.22, 0.2), 0, 360), [(0.72, 0.3), (0.72, 0.9)]]),
    ]


def draw(strokes: Sequence[Sequence[Point]], rng: np.random.Generator) -> bytes:
    """Return a PNG of strokes, leaning to the left, each a little otherwise by chance: white on black, 280×280."""
    slant, stretch, tilt = rng.normal(-0.4, 0.06), rng.normal(0.85, 0.05), rng.normal(0.1, 0.04)
    picture = Image.new("L", (280, 280))
    pen, width = ImageDraw.Draw(picture), int(rng.integers(17, 24))
    for stroke in strokes:
        points = [
            (280 * (0.5 + stretch * (x - 0.5) + slant * (0.5 - y)), 280 * (y + tilt * (x - 0.5))) for x, y in stroke
        ]
        pen.line(points, 255, width, joint="curve")
        for x, y in points:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), 255)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def run(*words: str | Path) -> str:
    """Show a command, then run it; return the last line that it printed."""
    print(f"\n$ python {shlex.join(map(str, words))}", flush=True)
    result = subprocess.run(
        [sys.executable, ROOT / words[0], *words[1:]], check=True, stdout=subprocess.PIPE, text=True
    )
    print(result.stdout, end="", flush=True)
    return result.stdout.strip().splitlines()[-1]


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve the champion with a log; yield the server's address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    print(f"\n$ python -m serving --log --port {port} &", flush=True)
    server = subprocess.Popen([sys.executable, "-m", "serving", "--log", "--port", str(port)], cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: get(f"{url}/ready")["ready"] or server.poll() is not None)
        yield url
    finally:
        server.terminate()
        server.wait()


def get(request: Request | str) -> dict[str, Any]:
    with urlopen(request, timeout=30) as response:
        return dict(json.load(response))


def until(holds: Callable[[], bool], *, within: float = 120) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if holds():
                return
        time.sleep(0.2)
    raise TimeoutError("the server does not answer")


def ask(url: str, picture: bytes) -> tuple[str, str]:
    """Return the id of an answer, and its label."""
    answer = get(Request(f"{url}/predict", picture, {"Content-Type": "image/png"}))["predictions"][0]
    return answer["id"], answer["label"]


def accept_all(table: Path) -> None:
    """Accept each correction, as a person would after a look at the sheet."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"review": "accept"} for row in rows)


def main(folder: Path) -> tuple[int, int, str]:
    """Walk through the loop; return how many of twenty digits were right before and after, and the verdict."""
    rng = np.random.default_rng(0)
    drawings = [(digit, draw(strokes, rng)) for _ in range(DRAWINGS) for digit, strokes in hand()]
    twenty = drawings[:20]
    run("flows/train_flow.py", *RECIPE)
    with serving() as url:
        answers = [(digit, *ask(url, picture)) for digit, picture in drawings]
        before = sum(label == digit for digit, _, label in answers[:20])
        wrong = [(digit, answer) for digit, answer, label in answers if label != digit]
        print(f"{before} of the twenty are read right, and {len(answers) - len(wrong)} of all {len(answers)}")
        for digit, answer in wrong:
            body = json.dumps({"id": answer, "label": digit}).encode()
            get(Request(f"{url}/feedback", body, {"Content-Type": "application/json"}))
        run("flows/monitor_flow.py")
        run("flows/monitor_flow.py", "review", "--out", folder / "review")
        accept_all(folder / "review" / "corrections.csv")
        run("flows/monitor_flow.py", "review", "--apply", folder / "review" / "corrections.csv")
        old = get(f"{url}/health")["model_version"]
        verdict = run("flows/monitor_flow.py", "--retrain", *LONGER)
        if "Promoted" not in verdict:
            sys.exit("the gate did not promote it")
        until(lambda: get(f"{url}/health")["model_version"] != old)
        after = sum(ask(url, picture)[1] == digit for digit, picture in twenty)
        print(f"\nOf the twenty, {before} were read right before, and {after} are now")
    run("flows/champion.py", "list")
    return before, after, verdict


def start(home: Path = Path("loop-example")) -> None:
    """Walk through the loop; runs, models and the log are kept in `home`."""
    home = home.absolute()
    home.mkdir(exist_ok=True)
    os.environ |= {
        "PYTHONPATH": str(ROOT),
        "MNIST_PIPELINE_HOME": str(home),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
    }
    for name in ("MNIST_PIPELINE_HOME", "MLFLOW_TRACKING_URI"):
        print(f"$ export {name}={shlex.quote(os.environ[name])}")
    main(home)


if __name__ == "__main__":
    cyclopts.run(start)
