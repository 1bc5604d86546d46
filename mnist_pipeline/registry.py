"""The registered model: its versions, which of them is the champion, and the ledger that says why.

The ledger is kept where the versions are: each entry is a tag of the version that it is about.
"""

import getpass
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from mnist_pipeline.promotion import Check, Decision
from mnist_pipeline.store import client, exclusively, excusing, is_local
from mnist_pipeline.turns import turn

if TYPE_CHECKING:
    from mnist_pipeline.tracking import Run

Alias = Literal["champion", "previous_champion", "challenger"]
Action = Literal["promoted", "kept", "rolled back", "promoted by hand"]

LEDGER = "ledger/"  # and the time, in UTC: the name of an entry's tag
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class ModelVersion:
    """A registered model: its number, and the alias that it was given."""

    name: str
    number: int
    alias: Alias

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.number}"

    @property
    def alias_uri(self) -> str:
        return f"models:/{self.name}@{self.alias}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What was decided about a version, and who was champion before and after."""

    version: int
    action: Action
    champion_before: int | None
    champion: int | None
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    exam_sha256: str = ""
    data: str = ""  # what it was trained on
    by: str = field(default_factory=getpass.getuser)
    time: str = ""  # UTC, later than that of the entry before; set as it is recorded

    @property
    def promoted(self) -> bool:
        return self.champion == self.version

    @classmethod
    def from_json(cls, words: str) -> "Entry":
        fields = json.loads(words)
        checks = tuple(Check(**check) for check in fields.get("checks", ()))
        return cls(**fields | {"reasons": tuple(fields["reasons"]), "checks": checks})

    @property
    def alias(self) -> Alias:
        return "champion" if self.promoted else "challenger"


@dataclass(frozen=True)
class Registry:
    """The versions of one registered model."""

    name: str = "mnist-mlp"

    @property
    def champion(self) -> int | None:
        return self.version("champion")

    def version(self, alias: str) -> int | None:
        """Give the number of the version that bears `alias`."""
        with excusing("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model, or no such alias
            return int(client().get_model_version_by_alias(self.name, alias).version)
        return None

    @property
    def versions(self) -> list[int]:
        return sorted(int(each.version) for each in self._versions())

    def uri(self, version: int) -> str:
        return f"models:/{self.name}/{version}"

    def register(self, run: "Run", model_uri: str, *, description: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register a model that `run` logged, once; as `challenger`, unless it is champion already."""
        number = self._version_of(run)
        if number is None:
            if not self._models():
                with excusing("RESOURCE_ALREADY_EXISTS"):  # another process was quicker
                    client().create_registered_model(self.name, description=_about(self.name))
            model_id = model_uri.removeprefix("models:/")
            version = client().create_model_version(
                self.name, model_uri, run.id, dict(tags), description=description, model_id=model_id
            )
            number = int(version.version)
        if number == self.champion:
            return ModelVersion(self.name, number, "champion")
        self._set_alias("challenger", number)
        return ModelVersion(self.name, number, "challenger")

    def promote_first(self, model: ModelVersion) -> ModelVersion:
        """Make `model` the champion where there is none yet: somebody has to be measured against."""
        with self._alone():
            if self.champion not in (None, model.number) or _entries(self._get(model.number)):
                return model
            reasons = ("the first version: there was no champion to compare it with",)
            self._promote(
                Entry(
                    version=model.number,
                    action="promoted",
                    champion_before=None,
                    champion=model.number,
                    reasons=reasons,
                )
            )
        return ModelVersion(self.name, model.number, "champion")

    def settle(self, version: int, judge: Callable[[int | None], Decision], *, exam_sha256: str) -> Entry:
        """Let `judge` compare `version` with the champion, which nobody else can move meanwhile, and act on it.

        A version that was settled before keeps that decision; where the process was killed halfway, the rest is done.
        """
        with self._alone():
            for entry in _entries(self._get(version)):
                if entry.action in ("promoted", "kept"):
                    return entry
            while True:
                before = self._rival(version)
                decision = judge(before)
                if before == self._rival(version):  # nobody who took this process for dead has moved it meanwhile
                    break
            entry = Entry(
                version=version,
                action="promoted" if decision.promoted else "kept",
                champion_before=before,
                champion=version if decision.promoted else before,
                reasons=decision.reasons,
                checks=decision.checks,
                numbers=decision.numbers,
                exam_sha256=exam_sha256,
            )
            return self._promote(entry) if decision.promoted else self._record(entry)

    def promote_by_hand(self, version: int, *, reason: str) -> Entry:
        """Make `version` the champion whatever the gate said of it."""
        with self._alone():
            if version not in self.versions:
                known = ", ".join(map(str, self.versions)) or "none"
                raise ValueError(f"{self.name} has no version {version}: its versions are {known}")
            before = self.champion
            if version == before:
                raise ValueError(f"version {version} of {self.name} is the champion already")
            entry = Entry(
                version=version,
                action="promoted by hand",
                champion_before=before,
                champion=version,
                reasons=(reason,),
            )
            return self._promote(entry)

    def roll_back(self, *, reason: str) -> Entry:
        """Give the champion's place back to the one before; asked again, to the one before that."""
        with self._alone():
            bad, previous = self.champion, self.version("previous_champion")
            if previous is None or previous == bad:
                raise ValueError(f"{self.name} has no previous champion to go back to")
            promotions = [entry for entry in self.history() if entry.promoted and entry.version == previous]
            before_that = promotions[-1].champion_before if promotions else None
            entry = Entry(
                version=bad or previous,
                action="rolled back",
                champion_before=bad,
                champion=previous,
                reasons=(reason,),
            )
            self._set_alias("champion", previous)
            self._set_alias("previous_champion", before_that)
            return self._record(entry)

    def history(self) -> list[Entry]:
        """Give the ledger, the oldest entry first."""
        return sorted(chain.from_iterable(map(_entries, self._versions())), key=lambda entry: entry.time)

    def card(self, version: int) -> dict[str, Any]:
        """Tell a stranger about `version`: how good it is, its aliases, and when it was promoted."""
        found = self._get(version)
        promotions = [entry for entry in self.history() if entry.champion == version]
        return {
            "name": self.name,
            "version": version,
            "test_accuracy": _number(found.tags.get("test_accuracy")),
            "exam_accuracy": _number(found.tags.get("exam_accuracy")),
            "promoted": promotions[-1].time if promotions else None,
            "aliases": sorted(found.aliases),
            "run_id": found.run_id,
        }

    @property
    def champion_run(self) -> str | None:
        """The id of the run that made the champion."""
        champion = self.champion
        return None if champion is None else self._get(champion).run_id or None

    def champion_fingerprint(self) -> str | None:
        """Give the fingerprint of the run that made the champion."""
        run_id = self.champion_run
        return client().get_run(run_id).data.tags.get("fingerprint") if run_id else None

    def _alone(self) -> AbstractContextManager[object]:
        """Keep out all others who could move the champion: on this machine or, where the store is shared, anywhere."""
        return exclusively() if is_local() else turn(f"{self.name}-turns")

    def _next_time(self) -> str:
        """Give the time for the next entry, after the latest even where that is of a machine whose clock is ahead."""
        now = datetime.now(UTC)
        latest = max((entry.time for entry in self.history()), default="")
        if latest >= now.strftime(TIME):
            now = datetime.strptime(latest, TIME) + timedelta(microseconds=1)
        return now.strftime(TIME)

    def _rival(self, version: int) -> int | None:
        """Give the champion, or the one before where `version` took its place and was killed before it could say so."""
        return self.version("previous_champion" if self.champion == version else "champion")

    def _promote(self, entry: Entry) -> Entry:
        """Move the aliases, then write the ledger; wherever this is cut off, there is a champion."""
        if entry.champion_before != entry.version:
            self._set_alias("previous_champion", entry.champion_before)
        self._set_alias("champion", entry.version)
        entry = self._record(entry)
        if self.version("challenger") == entry.version:
            self._set_alias("challenger", None)
        return entry

    def _record(self, entry: Entry) -> Entry:
        """Write an entry to the ledger, and its gist to the version's description and to its run; give what it says."""
        version = self._get(entry.version)
        entry = replace(entry, data=version.tags.get("data", ""), time=entry.time or self._next_time())
        words = (
            f"**{entry.action.capitalize()}** at {entry.time[:16].replace('T', ' ')} UTC: {'; '.join(entry.reasons)}."
        )
        description = f"{version.description}\n\n{words}" if version.description else words
        client().update_model_version(self.name, version.version, description)
        if version.run_id:
            client().set_tag(version.run_id, "decision", entry.action)
            client().log_metric(version.run_id, "promoted", float(entry.promoted))
        for name, value in {
            "decision": entry.action,
            "decision_reasons": "; ".join(entry.reasons),
            LEDGER + entry.time: json.dumps(asdict(entry)),  # the last, as it says that all is done
        }.items():
            client().set_model_version_tag(self.name, version.version, name, value)
        return entry

    def _models(self) -> list[Any]:
        return list(client().search_registered_models(f"name = '{self.name}'"))

    def _versions(self) -> list[Any]:
        return list(client().search_model_versions(f"name = '{self.name}'"))

    def _get(self, version: int) -> Any:
        return client().get_model_version(self.name, str(version))

    def _version_of(self, run: "Run") -> int | None:
        versions = client().search_model_versions(f"name = '{self.name}' and run_id = '{run.id}'")
        return int(versions[0].version) if versions else None

    def _set_alias(self, alias: Alias, version: int | None) -> None:
        if version is None:
            client().delete_registered_model_alias(self.name, alias)
        else:
            client().set_registered_model_alias(self.name, alias, str(version))


def resolve(uri: str) -> tuple[Registry, int]:
    """Find the version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names now.

    Raises `ValueError` where there is none.
    """
    match = re.fullmatch(r"models:/([^/@'\"]+)(?:@([\w-]+)|/(\d+))", uri)
    if not match:
        raise ValueError(f"a model is named as models:/mnist-mlp@champion or models:/mnist-mlp/1, not as {uri}")
    name, alias, number = match.groups()
    registry = Registry(name)
    version = registry.version(alias) if alias else int(number)
    if version is None or (number and version not in registry.versions):
        known = ", ".join(map(str, registry.versions))
        remedy = f"its versions are {known}" if known else "train one first (make train)"
        raise ValueError(f"{name} has no {alias or f'version {number}'}: {remedy}")
    return registry, version


def _about(name: str) -> str:
    return f"""\
Raw `uint8` images `(N, height, width)` → probabilities `(N, classes)`; the normalisation is inside. `champion` is the \
version to use, `previous_champion` the one before, `challenger` the latest that has not replaced it. Why, is told by \
each version's description.

```python
model = mlflow.pyfunc.load_model("models:/{name}@champion")
```
"""


def _number(words: str | None) -> float | None:
    return float(words) if words else None


def _entries(version: Any) -> list[Entry]:
    return [Entry.from_json(words) for name, words in version.tags.items() if name.startswith(LEDGER)]
