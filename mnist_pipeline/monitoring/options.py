"""What of the served images is watched, and when that leads to a retraining. Imports only what is light."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.config import NO_OTHER_FIELDS, FieldError, check
from mnist_pipeline.monitoring.fetch import is_address
from mnist_pipeline.monitoring.log import FILE
from mnist_pipeline.text import duration, printable


def review_command(logs: Sequence[str], *options: str) -> str:
    """Return the command that reviews the corrections in `logs`, as it is typed."""
    named = [] if tuple(logs) == (str(FILE),) else ["--log", *logs]
    return printable(shlex.join(["python", "flows/monitor_flow.py", "review", *named, *options]))


def different_logs(places: Sequence[str]) -> tuple[str, ...]:
    """Return logs as addresses and full paths. Raises `FieldError` if one of them is named twice."""
    try:
        found = tuple(each.rstrip("/") if is_address(each) else str(Path(each).resolve()) for each in places)
    except ValueError as error:
        raise FieldError("log", f"cannot be used: {error}") from None
    check(0 < len({*found}) == len(found), "log", [*places], "one file, or different ones")
    return found


def check_disjoint(ids: Mapping[str, Iterable[str]]) -> None:
    """Raise `ValueError` if two of the logs that `ids` are from hold the same answers, as a log and its copy do."""
    first_in: dict[str, str] = {}
    for place, found in ids.items():
        for each in {*found}:
            if first_in.setdefault(each, place) != place:
                raise ValueError(f"{first_in[each]} and {place} hold the same answers: name each server once")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is watched. Raises `FieldError` if a value makes no sense."""

    __pydantic_config__ = NO_OTHER_FIELDS

    log: tuple[str, ...] = (str(FILE),)
    """Logs of the servers: files, or addresses of servers with --share-log."""
    since: str = "7d"
    """How far back to look: 7d, 12h or 30m. Corrections count whenever they were made."""
    min_corrections: int = 20
    """Reviewed corrections, each of another image, that are enough to retrain."""
    trust_feedback: bool = False
    """Count and learn from corrections that nobody has reviewed, too."""
    retrain: bool = False
    """Retrain if that is the verdict, with the corrections as more training images; the gate decides."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", different_logs(self.log))
        check(self.min_corrections >= 1, "min_corrections", self.min_corrections, "at least 1")
        try:
            duration(self.since)
        except ValueError as error:
            raise FieldError("since", f"cannot be used: {error}") from None
