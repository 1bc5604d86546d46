"""Times the phases of one contender, in a process of its own, and prints them as a line of JSON."""

import json
import resource
import time

START = time.perf_counter()


class Clock:
    """`tick` ends a phase; `report` prints all of them."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.last = START

    def tick(self, phase: str) -> None:
        now = time.perf_counter()
        self.phases[phase] = now - self.last
        self.last = now

    def report(self, *, accuracy: float, threads: int) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        result = self.phases | {
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak_mib": usage.ru_maxrss / 1024,
            "accuracy": accuracy,
            "threads": threads,
        }
        print(json.dumps(result))
