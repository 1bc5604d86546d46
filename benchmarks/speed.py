"""Times this project against the tutorial's script and its peers, each run in a process of its own, in turn.

make bench                              all of it, five rounds
make bench ARGS="commands --rounds 9"   one part, more rounds

Without the peers' environment, and without the contenders whose names contain one of these words:

.venv/bin/python benchmarks/speed.py commands --rounds 3 --skip server "first run"
"""

import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import cyclopts
import psutil

ROOT = Path(__file__).resolve().parents[1]
CONTENDERS = ROOT / "benchmarks" / "contenders"
OURS = str(ROOT / ".venv" / "bin" / "python")
PEERS = str(ROOT / ".venv-bench" / "bin" / "python")  # the same packages, and the peers on top
DATA = str(ROOT / "MNIST_data")
TUTORIAL = [OURS, str(CONTENDERS / "tutorial.py"), DATA]
FLOW = [OURS, str(ROOT / "flows" / "train_flow.py")]
FAST = ["--recipe", "fast"]
BY_HAND = [OURS, str(CONTENDERS / "by_hand.py"), DATA]
SERVER = "http://127.0.0.1:4299/api"
NO_TELEMETRY = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}

T = TypeVar("T")
Run = dict[str, float]
Words = Annotated[tuple[str, ...], cyclopts.Parameter(consume_multiple=True)]


def ours(**options: object) -> list[str]:
    return [OURS, str(CONTENDERS / "ours.py"), DATA, json.dumps(options)]


TRAINING = {
    "tutorial's loop": TUTORIAL,
    "ours": ours(),
    "ours, `--compile`": ours(compile=True, epochs=11),  # the first epoch compiles, and is timed separately
    "ours, `--recipe fast`": ours(recipe="fast"),
    "scikit-learn": [PEERS, str(CONTENDERS / "sklearn_mlp.py"), DATA, "1"],
    "Lightning": [PEERS, str(CONTENDERS / "lightning_mlp.py"), DATA],
    "skorch": [PEERS, str(CONTENDERS / "skorch_mlp.py"), DATA],
}


def phases(command: list[str]) -> Run:
    """Run a contender and read the phases that it prints."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr}")
    return dict(json.loads(result.stdout.splitlines()[-1]))


def whole(command: list[str], **environment: str) -> Run:
    """Run a whole command, from the Enter key to the prompt."""
    start = time.perf_counter()
    result = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wall = time.perf_counter() - start
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr}")
    return {"wall": wall}


def watched(command: list[str], **environment: str) -> Run:
    """Run a whole command again for the peak of its memory and its children's: sampling would delay a timed run.

    A peak lasts for two samples, as a child that is being forked seems to double its parent's memory for a moment.
    """
    process = psutil.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    peak = before = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            family = [process, *process.children(recursive=True)]
            now = sum(member.memory_info().rss for member in family)
            peak, before = max(peak, min(before, now)), now
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return {"peak_mib": peak / 2**20}


def in_turn(contenders: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """Run each contender once a round, so that a slow minute of the machine hits all of them."""
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, run in contenders.items():
            print(f"round {number}/{rounds}: {name}", file=sys.stderr)
            runs[name].append(run())
    return runs


def spread(runs: list[Run], key: str) -> str:
    values = sorted(run[key] for run in runs if key in run)
    if not values:
        return "–"
    return f"{statistics.median(values):.2f} ({values[0]:.2f}–{values[-1]:.2f})"


def ratio(runs: list[Run], base: list[Run] | None, key: str) -> str:
    """Return the median of the ratios round by round, and the extremes; a dash if `base` was skipped."""
    if base is None:
        return "–"
    values = sorted(run[key] / other[key] for run, other in zip(runs, base, strict=True))
    return f"{statistics.median(values):.2f} ({values[0]:.2f}–{values[-1]:.2f})"


def without(skip: Sequence[str], contenders: Mapping[str, T]) -> dict[str, T]:
    """Return the contenders whose names contain none of the words to skip."""
    return {name: contender for name, contender in contenders.items() if not any(word in name for word in skip)}


def training(rounds: int, skip: Sequence[str]) -> None:
    """Ten epochs of the reference recipe, ours and theirs."""
    contenders = without(skip, TRAINING)
    if not shutil.which(PEERS) and any(command[0] == PEERS for command in contenders.values()):
        sys.exit("the peers are not installed: run `make bench`, or --skip scikit-learn Lightning skorch")
    runs = in_turn({name: partial(phases, command) for name, command in contenders.items()}, rounds)
    print("\n| | threads | import | load | compile | training | evaluation | CPU | accuracy | / tutorial | / sklearn |")
    print("| --- " * 11 + "|")
    for name, mine in runs.items():
        columns = [spread(mine, key) for key in ("import", "load", "compile", "train", "evaluate", "cpu")]
        against = [ratio(mine, runs.get(base), "train") for base in ("tutorial's loop", "scikit-learn")]
        accuracy = f"{100 * statistics.median(run['accuracy'] for run in mine):.2f} %"
        print("|", " | ".join([name, f"{mine[0]['threads']:.0f}", *columns, accuracy, *against]), "|")
    off = {name: mine[0]["accuracy"] for name, mine in runs.items() if not 0.969 < mine[0]["accuracy"] < 0.985}
    if off:
        sys.exit(f"these did not learn what the others did: {off}")


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def busy(rounds: int, skip: Sequence[str]) -> None:
    """Two epochs with another process at work on one core: ten of the tutorial's would take minutes."""

    def disturbed(command: list[str]) -> Run:
        with busy_neighbour():
            return phases(command)

    contenders = {
        "ours, quiet": partial(phases, ours(epochs=2)),
        "ours, disturbed": partial(disturbed, ours(epochs=2)),
        "tutorial's loop, quiet": partial(phases, [*TUTORIAL, "2"]),
        "tutorial's loop, disturbed": partial(disturbed, [*TUTORIAL, "2"]),
    }
    runs = in_turn(without(skip, contenders), rounds)
    print("\n| two epochs | seconds | against its own quiet time |\n| --- | --- | --- |")
    for name, mine in runs.items():
        quiet = runs.get(f"{name.split(',')[0]}, quiet")
        print(f"| {name} | {spread(mine, 'train')} | {ratio(mine, quiet, 'train')} |")


def commands(rounds: int, skip: Sequence[str]) -> None:
    """Whole commands, from the Enter key to the prompt; and one more round for their memory."""
    base, hand = "tutorial's script", "the same job by hand"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # where MLflow by hand writes its mlruns
        home = databases(folder, "ours") | {"PREFECT_UI_URL": "http://127.0.0.1:9"}  # not the user's lasting server
        by_hand = databases(folder, "by-hand") | NO_TELEMETRY
        served = home | {"PREFECT_API_URL": SERVER}

        def first_run(run: Callable[..., Run]) -> Run:
            with tempfile.TemporaryDirectory() as fresh:
                return run([*FLOW, "--data-dir", f"{fresh}/data"], **home | databases(fresh, "ours"))

        contenders: dict[str, Callable[[Callable[..., Run]], Run]] = {
            base: lambda run: run(TUTORIAL),
            hand: lambda run: run(BY_HAND, **by_hand),
            "`train_flow.py`": lambda run: run(FLOW, **home),
            "`train_flow.py --recipe fast`": lambda run: run([*FLOW, *FAST], **home),
            "`train_flow.py`, a Prefect server running": lambda run: run(FLOW, **served),
            "`train_flow.py --recipe fast`, a Prefect server running": lambda run: run([*FLOW, *FAST], **served),
            "`train_flow.py`, first run": first_run,
        }
        contenders = without(skip, contenders)
        whole(FLOW, **home)  # creates the databases
        if hand in contenders:
            whole(BY_HAND, **by_hand)
        served_too = any("server" in name for name in contenders)
        with lasting_server(home) if served_too else contextlib.nullcontext():
            walls = in_turn({name: partial(turn, whole) for name, turn in contenders.items()}, rounds)
            peaks = in_turn({name: partial(turn, watched) for name, turn in contenders.items()}, 1)
    print("\n| whole command | seconds | / tutorial | / by hand | peak memory, MiB | / tutorial |")
    print("| --- " * 6 + "|")
    for name, mine in walls.items():
        ratios = [ratio(mine, walls.get(each), "wall") for each in (base, hand)]
        (peak,) = (run["peak_mib"] for run in peaks[name])
        memory = f"{peak / peaks[base][0]['peak_mib']:.2f}" if base in peaks else "–"
        print("|", " | ".join([name, spread(mine, "wall"), *ratios, f"{peak:,.0f}", memory]), "|")


def databases(folder: str, name: str) -> dict[str, str]:
    """Return the environment of a command whose databases are in `folder`."""
    return {"PREFECT_HOME": f"{folder}/{name}", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/{name}.db"}


@contextlib.contextmanager
def lasting_server(home: dict[str, str]) -> Iterator[None]:
    """Run `prefect server start` on a port of its own."""
    command = [str(Path(OURS).with_name("prefect")), "server", "start", "--port", "4299"]
    log = subprocess.DEVNULL
    process = subprocess.Popen(command, env=os.environ | home | NO_TELEMETRY, stdout=log, stderr=log)
    try:
        for _ in range(120):
            if subprocess.run(["curl", "--silent", "--fail", f"{SERVER}/health"], stdout=log).returncode == 0:
                break
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait()


def seeds(rounds: int, _: Sequence[str]) -> None:
    """Train the fast recipe with twice as many seeds as rounds."""
    runs = [phases(ours(recipe="fast", seed=seed)) for seed in range(2 * rounds)]
    reached = [run["accuracy"] for run in runs]
    print(f"\nfast, {len(runs)} seeds: test accuracy {100 * min(reached):.2f} to {100 * max(reached):.2f} %, ", end="")
    print(f"mean {100 * statistics.mean(reached):.2f} %; training {spread(runs, 'train')} s")


PARTS = {"training": training, "busy": busy, "commands": commands, "seeds": seeds}


def main(*parts: Literal["training", "busy", "commands", "seeds"], rounds: int = 5, skip: Words = ()) -> None:
    """Print each part's table, without the contenders whose names contain one of the words to skip."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    print(f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}; medians of {rounds} rounds (extremes)")
    for name in parts or PARTS:
        PARTS[name](rounds, skip)


if __name__ == "__main__":
    cyclopts.run(main)
