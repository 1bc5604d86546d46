"""The registered model: its versions, which of them is the champion, and the ledger that says why."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from mnist_pipeline.tracking.gate import Decision
from mnist_pipeline.tracking.ledger import TAG_PREFIX, Alias, LedgerEntry, entries_of, next_time
from mnist_pipeline.tracking.store import client, ignore_mlflow_errors, store_lock

if TYPE_CHECKING:  # runs.py imports torch, which history and rollback do without
    from mnist_pipeline.tracking.runs import Run


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model, and the alias that it was given."""

    name: str
    number: int
    alias: Alias

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.number}"

    @property
    def alias_uri(self) -> str:
        return f"models:/{self.name}@{self.alias}"


@dataclass(frozen=True)
class Registry:
    """The versions of one registered model."""

    name: str = "mnist-mlp"

    @property
    def champion(self) -> int | None:
        return self.version("champion")

    @property
    def champion_run(self) -> str | None:
        """The id of the run that made the champion."""
        champion = self.champion
        return None if champion is None else self._get(champion).run_id or None

    @property
    def versions(self) -> list[int]:
        return sorted(int(each.version) for each in self._versions())

    def version(self, alias: str) -> int | None:
        """Return the number of the version that has `alias`."""
        with ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model, or alias
            return int(client().get_model_version_by_alias(self.name, alias).version)
        return None

    def uri(self, version: int) -> str:
        return f"models:/{self.name}/{version}"

    def register(self, run: "Run", model_uri: str, *, description: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register a model that `run` logged, once; as `challenger`, unless it is the champion already."""
        number = self._version_of(run)
        if number is None:
            if not client().search_registered_models(f"name = '{self.name}'"):
                with ignore_mlflow_errors("RESOURCE_ALREADY_EXISTS"):  # another process was quicker
                    client().create_registered_model(self.name, description=_description(self.name))
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
        """Make `model` the champion if there is none yet: the gate needs one to compare with."""
        with store_lock():
            if self.champion not in (None, model.number) or entries_of(self._get(model.number)):
                return model
            self._promote(
                LedgerEntry(
                    version=model.number,
                    action="promoted",
                    champion_before=None,
                    champion=model.number,
                    reasons=("the first version: there was no champion to compare it with",),
                )
            )
        return ModelVersion(self.name, model.number, "champion")

    def evaluate_challenger(
        self, version: int, decide: Callable[[int | None], Decision], *, holdout_sha256: str
    ) -> LedgerEntry:
        """Let `decide` compare `version` with the champion, promote it or not, and record why.

        A version that was decided on before keeps that decision; if the process was killed halfway, the rest is done.
        """
        with store_lock():
            for entry in entries_of(self._get(version)):
                if entry.action in ("promoted", "rejected"):
                    return entry
            before = self._opponent(version)
            decision = decide(before)
            entry = LedgerEntry(
                version=version,
                action="promoted" if decision.promoted else "rejected",
                champion_before=before,
                champion=version if decision.promoted else before,
                reasons=decision.reasons,
                checks=decision.checks,
                numbers=decision.numbers,
                holdout_sha256=holdout_sha256,
            )
            return self._promote(entry) if decision.promoted else self._record(entry)

    def promote_by_hand(self, version: int, *, reason: str) -> LedgerEntry:
        """Make `version` the champion, whatever the gate decided. Raises `ValueError` if there is no such version."""
        with store_lock():
            if version not in self.versions:
                known = ", ".join(map(str, self.versions)) or "none"
                raise ValueError(f"{self.name} has no version {version}: its versions are {known}")
            before = self.champion
            if version == before:
                raise ValueError(f"version {version} of {self.name} is the champion already")
            entry = LedgerEntry(
                version=version, action="promoted by hand", champion_before=before, champion=version, reasons=(reason,)
            )
            return self._promote(entry)

    def roll_back(self, *, reason: str) -> LedgerEntry:
        """Make the previous champion the champion again; called again, go back to the one before that."""
        with store_lock():
            bad, previous = self.champion, self.version("previous_champion")
            if previous is None or previous == bad:
                raise ValueError(f"{self.name} has no previous champion to go back to")
            promotions = [entry for entry in self.history() if entry.promoted and entry.version == previous]
            before_that = promotions[-1].champion_before if promotions else None
            entry = LedgerEntry(
                version=bad or previous,
                action="rolled back",
                champion_before=bad,
                champion=previous,
                reasons=(reason,),
            )
            self._set_alias("champion", previous)
            self._set_alias("previous_champion", before_that)
            return self._record(entry)

    def history(self) -> list[LedgerEntry]:
        """Return the ledger, the oldest entry first."""
        return sorted(chain.from_iterable(map(entries_of, self._versions())), key=lambda entry: entry.time)

    def card(self, version: int) -> dict[str, Any]:
        """Return what `version` is worth, its aliases, and when it was promoted."""
        found = self._get(version)
        promotions = [entry for entry in self.history() if entry.champion == version != entry.champion_before]
        return {
            "name": self.name,
            "version": version,
            "test_accuracy": _number(found.tags.get("test_accuracy")),
            "holdout_accuracy": _number(found.tags.get("holdout_accuracy") or found.tags.get("exam_accuracy")),  # 0.1's
            "promoted": promotions[-1].time if promotions else None,
            "aliases": sorted(found.aliases),
            "run_id": found.run_id,
        }

    def champion_fingerprint(self) -> str | None:
        """Return the fingerprint of the run that made the champion."""
        run_id = self.champion_run
        return client().get_run(run_id).data.tags.get("fingerprint") if run_id else None

    def _opponent(self, version: int) -> int | None:
        """Return the champion, or the one before if `version` took its place and was killed before it was recorded."""
        return self.version("previous_champion" if self.champion == version else "champion")

    def _promote(self, entry: LedgerEntry) -> LedgerEntry:
        """Move the aliases, then write the ledger; wherever this is interrupted, there is a champion."""
        if entry.champion_before != entry.version:
            self._set_alias("previous_champion", entry.champion_before)
        self._set_alias("champion", entry.version)
        entry = self._record(entry)
        if self.version("challenger") == entry.version:
            self._set_alias("challenger", None)
        return entry

    def _record(self, entry: LedgerEntry) -> LedgerEntry:
        """Write an entry to the ledger, and its summary to the version's description and to its run; return it."""
        version = self._get(entry.version)
        entry = replace(entry, data=version.tags.get("data", ""), time=entry.time or next_time(self.history()))
        description = f"{version.description}\n\n{entry.summary}" if version.description else entry.summary
        client().update_model_version(self.name, version.version, description)
        if version.run_id:
            client().set_tag(version.run_id, "decision", entry.action)
            client().log_metric(version.run_id, "promoted", float(entry.promoted))
        for name, value in {
            "decision": entry.action,
            "decision_reasons": "; ".join(entry.reasons),
            TAG_PREFIX + entry.time: entry.to_json(),  # last, as it says that all is done
        }.items():
            client().set_model_version_tag(self.name, version.version, name, value)
        return entry

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
    """Return the version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` refers to now.

    Raises `ValueError` if there is none.
    """
    match = re.fullmatch(r"models:/([^/@'\"]+)(?:@([\w-]+)|/(\d+))", uri)
    if not match:
        raise ValueError(f"a model is given as models:/mnist-mlp@champion or models:/mnist-mlp/1, not as {uri}")
    name, alias, number = match.groups()
    registry = Registry(name)
    version = registry.version(alias) if alias else int(number)
    if version is None or (number and version not in registry.versions):
        known = ", ".join(map(str, registry.versions))
        remedy = f"its versions are {known}" if known else "train one first (make train)"
        raise ValueError(f"{name} has no {alias or f'version {number}'}: {remedy}")
    return registry, version


def _description(name: str) -> str:
    return f"""\
Raw `uint8` images `(N, height, width)` → probabilities `(N, classes)`; the normalisation is inside. `champion` is the \
version to use, `previous_champion` the one before it, `challenger` the latest that has not replaced it. Each \
version's description says why.

```python
model = mlflow.pyfunc.load_model("models:/{name}@champion")
```
"""


def _number(text: str | None) -> float | None:
    return float(text) if text else None
