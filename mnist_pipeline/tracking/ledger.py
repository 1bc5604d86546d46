"""The ledger: why which version is champion. Each entry is a tag of the version that it is about."""

import getpass
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from mnist_pipeline.tracking.gate import Check

Alias = Literal["champion", "previous_champion", "challenger"]
Action = Literal["promoted", "rejected", "rolled back", "promoted by hand"]

TAG_PREFIX = "ledger/"  # and the time, in UTC
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
RENAMED = {"exam_sha256": "holdout_sha256", "won": "wins", "lost": "losses"}  # since version 0.1


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What was decided about a version, and which version was champion before and after."""

    version: int
    action: Action
    champion_before: int | None
    champion: int | None
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    holdout_sha256: str = ""
    data: str = ""  # what it was trained on
    by: str = field(default_factory=getpass.getuser)
    time: str = ""  # UTC, later than that of the entry before; set when it is recorded

    @property
    def promoted(self) -> bool:
        return self.champion == self.version

    @property
    def alias(self) -> Alias:
        return "champion" if self.promoted else "challenger"

    @property
    def summary(self) -> str:
        return f"**{self.action.capitalize()}** at {self.time[:16].replace('T', ' ')} UTC: {'; '.join(self.reasons)}."

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LedgerEntry":
        """Return the entry that `to_json` wrote. Entries of version 0.1 are read as well."""
        fields = {RENAMED.get(name, name): value for name, value in json.loads(text).items()}
        if fields["action"] == "kept":
            fields["action"] = "rejected"
        fields["reasons"] = tuple(fields["reasons"])
        fields["checks"] = tuple(Check(**check) for check in fields.get("checks", ()))
        fields["numbers"] = {RENAMED.get(name, name): value for name, value in fields.get("numbers", {}).items()}
        return cls(**fields)


def entries_of(version: Any) -> list[LedgerEntry]:
    """Return the entries about one of MLflow's model versions."""
    return [LedgerEntry.from_json(text) for name, text in version.tags.items() if name.startswith(TAG_PREFIX)]


def next_time(history: list[LedgerEntry]) -> str:
    """Return the time of the next entry: after the latest, even if that came from a machine whose clock is ahead."""
    now = datetime.now(UTC)
    latest = max((entry.time for entry in history), default="")
    if latest >= now.strftime(TIME):
        now = datetime.strptime(latest, TIME) + timedelta(microseconds=1)
    return now.strftime(TIME)
