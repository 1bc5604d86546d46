"""The registered model: its versions, which of them is the champion, and the ledger that says why."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from mnist_pipeline.data.source import dataset_of
from mnist_pipeline.process import python_command
from mnist_pipeline.text import listed
from mnist_pipeline.tracking import ledger, once, store, weights
from mnist_pipeline.tracking.gate import Decision
from mnist_pipeline.tracking.ledger import Alias, LedgerEntry

if TYPE_CHECKING:  # runs.py imports torch, which history and rollback do without
    from mnist_pipeline.tracking.runs import Run

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Raw `uint8` images `(N, height, width)` → probabilities `(N, classes)`; the normalisation is inside. `champion` is the \
version to use, `previous_champion` the one before it, `challenger` the latest that has not replaced it.

```python
model = mlflow.pyfunc.load_model("models:/{name}@champion")
```
"""


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
    def versions(self) -> list[int]:
        return [int(each.version) for each in store.model_versions(self.name)]

    @property
    def known_versions(self) -> str:
        return f"its versions are {listed(map(str, self.versions), most=20) or 'none'}"

    def version(self, alias: str) -> int | None:
        """Return the number of the version that has `alias`."""
        with store.ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model or alias
            return int(store.client().get_model_version_by_alias(self.name, alias).version)
        return None

    def uri(self, version: int) -> str:
        return f"models:/{self.name}/{version}"

    def promote_command(self, version: int) -> str:
        """Return the command that makes `version` the champion by hand."""
        dataset = dataset_of(self.name)
        option = "" if dataset == "mnist" else f" --dataset {dataset}"
        return f'{python_command()} flows/champion.py promote {version}{option} --reason "…"'

    def register(self, run: "Run", model_uri: str, *, description: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register a model that `run` logged, once; as `challenger`, unless it is the champion already."""
        found = once.versions_of(self.name, run.id)
        number = int(found[0].version) if found else None
        if number is None:
            if not store.client().search_registered_models(f"name = '{self.name}'"):
                with store.ignore_mlflow_errors("RESOURCE_ALREADY_EXISTS"):  # another process was quicker
                    store.client().create_registered_model(self.name, description=DESCRIPTION.format(name=self.name))
            tags = {"fingerprint": run.tags.get("fingerprint", ""), **tags}
            number = once.create_version(self.name, model_uri, run.id, tags, description)
        if number == self.champion:
            return ModelVersion(self.name, number, "champion")
        self._set_alias("challenger", number)
        return ModelVersion(self.name, number, "challenger")

    def promote_first(self, model: ModelVersion) -> ModelVersion:
        """Make `model` the champion if there has never been one: the gate needs one to compare with."""
        with store.store_lock():
            self._finish_interrupted()
            is_taken = self._last_champion() not in (None, model.number)
            if is_taken or ledger.entries_of(self._get(model.number)):
                return model
            number = model.number
            reason = "the first version that beats guessing: there was no champion to compare it with"
            self._carry_out(
                LedgerEntry(version=number, action="promoted", champion_before=None, champion=number, reasons=(reason,))
            )
        return ModelVersion(self.name, model.number, "champion")

    def evaluate_challenger(
        self, version: int, decide: Callable[[int | None], Decision], *, holdout_sha256: str
    ) -> LedgerEntry:
        """Compare `version` with the champion by `decide`, promote it or not, and record why.

        A version that was decided on before, by the gate or by hand, keeps the last decision.
        """
        with store.store_lock():
            self._finish_interrupted()
            if decided := ledger.entries_of(self._get(version)):
                return decided[-1]
            before = self._last_champion()
            decision = decide(before)
            entry = LedgerEntry(
                version=version,
                action="promoted" if decision.promoted else "rejected",
                champion_before=before,
                champion=version if decision.promoted else before,
                reasons=decision.reasons,
                checks=decision.checks,
                numbers=decision.numbers,
                limits=decision.limits,
                holdout_sha256=holdout_sha256,
            )
            return self._carry_out(entry)

    def promote_by_hand(self, version: int, *, reason: str) -> LedgerEntry:
        """Make `version` the champion, whatever the gate decided. Raises `ValueError` if there is no such version."""
        ledger.check_reason(reason)
        with store.store_lock():
            entry = self._finish_interrupted()
            if entry and (entry.action, entry.version) == ("promoted by hand", version):
                return entry  # the same command, which was interrupted
            if version not in self.versions:
                raise ValueError(f"{self.name} has no version {version}: {self.known_versions}")
            if version == self.champion:
                raise ValueError(f"version {version} of {self.name} is the champion already")
            before, action = self.champion, "promoted by hand"
            return self._carry_out(
                LedgerEntry(version=version, action=action, champion_before=before, champion=version, reasons=(reason,))
            )

    def roll_back(self, *, reason: str) -> LedgerEntry:
        """Make the previous champion the champion again; called again, go back to the one before that."""
        ledger.check_reason(reason)
        with store.store_lock():
            entry = self._finish_interrupted()
            if entry and entry.action == "rolled back":
                return entry  # the same command, which was interrupted
            current = self._last_champion()
            previous = self.version("previous_champion") or self._predecessor(current)
            if previous == current and not self.champion:  # whose version was deleted
                current = None
            if previous is None or previous == current:
                raise ValueError(f"{self.name} has no previous champion to go back to: promote a version by hand")
            about, action = current or previous, "rolled back"
            return self._carry_out(
                LedgerEntry(version=about, action=action, champion_before=current, champion=previous, reasons=(reason,))
            )

    def history(self) -> list[LedgerEntry]:
        """Return the ledger, the oldest entry first."""
        entries = chain.from_iterable(map(ledger.entries_of, store.model_versions(self.name)))
        return sorted(entries, key=lambda entry: entry.time)

    @property
    def aliases(self) -> dict[str, int]:
        """The version that each alias names."""
        found = store.client().get_registered_model(self.name).aliases
        return {alias: int(number) for alias, number in found.items()}

    def run_of(self, version: int | None) -> str | None:
        """Return the id of the run that made a version, if it is known."""
        return (version and self._get(version).run_id) or None

    def check_exists(self) -> None:
        """Raise `ValueError` if there is no such registered model."""
        if not store.client().search_registered_models(f"name = '{self.name}'"):
            names = ", ".join(model.name for model in store.client().search_registered_models())
            known = f"the models are {names}" if names else "train one first"
            raise ValueError(
                f"there is no model {self.name} in {store.without_password(store.tracking_uri())}: {known}"
            )

    def _last_champion(self) -> int | None:
        """Return the champion; if its alias was deleted, the last champion in the ledger that still exists."""
        if champion := self.champion:
            return champion
        versions = self.versions
        last = next((entry.champion for entry in reversed(self.history()) if entry.champion in versions), None)
        if last:
            remedy = f"{self.promote_command(last)} makes it that again"
            logger.warning(f"{self.name} has lost its champion; the last one that is there is version {last}: {remedy}")
        return last

    def _predecessor(self, version: int | None) -> int | None:
        """Return the champion whose place `version` took, if it still exists."""
        replaced = [entry.champion_before for entry in self.history() if entry.is_champion and entry.version == version]
        before = next((each for each in reversed(replaced) if each not in (None, version)), None)
        return before if before in self.versions else None

    def _carry_out(self, entry: LedgerEntry) -> LedgerEntry:
        """Do what `entry` says and record it.

        The first write holds all of it, and nothing has moved before. If what follows is interrupted or fails, the next
        command that moves a champion finishes it.
        """
        if entry.champion and entry.champion != entry.champion_before:
            ledger.check_not_pruned(champion := self._get(entry.champion))
            weights.check_has_model(champion)
        data, time = self._get(entry.version).tags.get("data", ""), ledger.next_time(self.history())
        entry = replace(entry, data=data, time=time)
        self._set_tag(entry.version, ledger.UNFINISHED, entry.to_json())
        return self._finish(entry)

    def _finish_interrupted(self) -> LedgerEntry | None:
        """Finish what an interrupted command began, and return its entry."""
        entry = ledger.unfinished(store.model_versions(self.name))
        return self._finish(entry) if entry else None

    def _finish(self, entry: LedgerEntry) -> LedgerEntry:
        """Move the aliases and record `entry`; each step may be repeated."""
        if entry.champion != entry.champion_before or entry.is_champion:
            is_rollback = entry.action == "rolled back"
            previous = self._predecessor(entry.champion) if is_rollback else entry.champion_before
            if is_rollback or previous not in (None, entry.version):
                self._set_alias("previous_champion", previous)
            self._set_alias("champion", entry.champion)
            if self.version("challenger") == entry.champion:
                self._set_alias("challenger", None)
        version = self._get(entry.version)
        store.client().update_model_version(self.name, version.version, entry.added_to(version.description or ""))
        if version.run_id:
            with store.ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # it was deleted
                store.client().set_tag(version.run_id, "decision", entry.action)
                store.client().log_metric(version.run_id, "promoted", float(entry.is_champion))
        self._set_tag(entry.version, "decision", entry.action)
        self._set_tag(entry.version, "decision_reasons", "; ".join(entry.reasons))
        self._set_tag(entry.version, ledger.TAG_PREFIX + entry.time, entry.to_json())
        store.client().delete_model_version_tag(self.name, version.version, ledger.UNFINISHED)  # last: all is done
        return entry

    def _get(self, version: int) -> Any:
        return store.client().get_model_version(self.name, str(version))

    def _set_tag(self, version: int, name: str, value: str) -> None:
        store.client().set_model_version_tag(self.name, str(version), name, value)

    def _set_alias(self, alias: Alias, version: int | None) -> None:
        with store.ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST"):  # it was deleted since
            if version is None:
                store.client().delete_registered_model_alias(self.name, alias)
            else:
                store.client().set_registered_model_alias(self.name, alias, str(version))


def parse(uri: str) -> tuple[str, str | None, int | None]:
    """Return the name and the alias or the number in `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises `ValueError` if `uri` is neither.
    """
    match = re.fullmatch(r"models:/([^/@'\"]+)(?:@([\w-]+)|/(\d+))", uri)
    if not match:
        raise ValueError(f"a model is given as models:/mnist-mlp@champion or models:/mnist-mlp/1, not as {uri}")
    name, alias, number = match.groups()
    return name, alias, int(number) if number else None


def resolve(uri: str) -> tuple[Registry, int]:
    """Return the version that `uri` refers to now. Raises `ValueError` if there is none."""
    name, alias, number = parse(uri)
    registry = Registry(name)
    version = registry.version(alias) if alias else number
    if version is None or (number is not None and version not in registry.versions):
        registry.check_exists()
        remedy = registry.known_versions
        if alias == "champion" and (versions := registry.versions):
            remedy += f"; {registry.promote_command(versions[-1])} makes version {versions[-1]} the champion"
        raise ValueError(f"{name} has no {alias or f'version {number}'}: {remedy}")
    ledger.check_not_pruned(store.client().get_model_version(name, str(version)))
    return registry, version
