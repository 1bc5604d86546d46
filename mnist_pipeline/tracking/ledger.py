"""The ledger: why which version is champion. Each entry is a tag of the version that it is about."""

import getpass
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from mnist_pipeline.config import check
from mnist_pipeline.text import is_utf8, printable
from mnist_pipeline.tracking.gate import Check

logger = logging.getLogger(__name__)

Alias = Literal["champion", "previous_champion", "challenger"]

UNFINISHED = "ledger_unfinished"  # tag with an entry from before the aliases are moved until all of it is recorded
PRUNED = "pruned"  # tag with the day on which the model of a version was deleted; the ledger remains
TAG_PREFIX = "ledger/"  # and the time, in UTC
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
MAX_REASON = 1000  # letters
MAX_DESCRIPTION = 5000  # letters: PostgreSQL takes no more
RENAMED = {"exam_sha256": "holdout_sha256", "won": "wins", "lost": "losses"}  # since version 0.1


def user_name() -> str:
    """Return the user's name, or number if the system knows no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"uid {os.getuid()}"


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What was decided about a version, and which version was champion before and after."""

    version: int
    action: str  # promoted, rejected, rolled back, promoted by hand, or what a newer version knows
    champion_before: int | None
    champion: int | None
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)  # of the gate
    holdout_sha256: str = ""
    data: str = ""  # what it was trained on
    by: str = field(default_factory=user_name)
    time: str = ""  # UTC, later than that of the entry before; set when it is recorded

    @property
    def is_champion(self) -> bool:
        """Whether the version that it is about was the champion afterwards."""
        return self.champion == self.version

    @property
    def alias(self) -> Alias:
        return "champion" if self.is_champion else "challenger"

    @property
    def summary(self) -> str:
        return f"**{self.action.capitalize()}** at {self.time[:16].replace('T', ' ')} UTC: {'; '.join(self.reasons)}."

    def added_to(self, description: str) -> str:
        """Return `description` with the summary at its end, once."""
        lines = description if self.summary in description else f"{description}\n\n{self.summary}".strip()
        return lines[-MAX_DESCRIPTION:]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LedgerEntry":
        """Return the entry that `to_json` wrote, in this version or another. Raises `ValueError` if it is not one."""
        entry = TypeAdapter(cls).validate_python(json.loads(text, object_pairs_hook=_rename))
        datetime.strptime(entry.time, TIME)
        return entry


def entries_of(version: Any) -> list[LedgerEntry]:
    """Return the entries about one of MLflow's model versions in order, without tags that only look like one."""
    tags = sorted((name, text) for name, text in version.tags.items() if name.startswith(TAG_PREFIX))
    return [entry for name, text in tags if (entry := read_entry(name, text))]


def unfinished(versions: Iterable[Any]) -> LedgerEntry | None:
    """Return the entry that an interrupted command has yet to carry out; there is one at most."""
    for version in versions:
        if entry := read_entry(UNFINISHED, version.tags.get(UNFINISHED, "")):
            return entry
    return None


@cache
def read_entry(name: str, text: str) -> LedgerEntry | None:
    """Return the entry in the tag `name`; with a warning, None if it is not one."""
    try:
        return LedgerEntry.from_json(text) if text else None
    except (ValueError, RecursionError):
        logger.warning(f"The tag {name} of a version is not an entry of the ledger: it is left out")
        return None


def _rename(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = {RENAMED.get(name, name): value for name, value in pairs}
    return fields | {"action": "rejected"} if fields.get("action") == "kept" else fields


def check_not_pruned(version: Any) -> None:
    """Raise `ValueError` if the model of one of MLflow's versions was deleted to make room."""
    if pruned := version.tags.get(PRUNED):
        raise ValueError(f"version {version.version} of {version.name} was pruned on {pruned}: its model is gone")


def check_reason(reason: str) -> None:
    """Raise `FieldError` if `reason` is empty, too long for the ledger, or cannot be written into it."""
    check(bool(reason.strip()), "reason", "empty", "what others are to read in the ledger")
    check(is_utf8(reason), "reason", printable(reason), "in UTF-8")
    check(len(reason) <= MAX_REASON, "reason", f"{len(reason):,}", f"at most {MAX_REASON:,} letters long")


def next_time(history: list[LedgerEntry]) -> str:
    """Return the time of the next entry: after the latest, even if that came from a machine whose clock is ahead."""
    now = datetime.now(UTC)
    latest = max((entry.time for entry in history), default="")
    if latest >= now.strftime(TIME):
        now = datetime.strptime(latest, TIME) + timedelta(microseconds=1)
    return now.strftime(TIME)
