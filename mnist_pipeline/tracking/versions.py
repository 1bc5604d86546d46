"""The versions of a registered model, decided or not, with what is known of each. Imports no torch."""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mnist_pipeline.config import Gate
from mnist_pipeline.interval import interval_text
from mnist_pipeline.text import percent
from mnist_pipeline.tracking import ledger
from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.store import client, created, ignore_mlflow_errors, logged_model_id, model_versions


@dataclass(frozen=True, kw_only=True)
class VersionSummary:
    """One version. What is not known, as its run or its files are gone or version 0.1 made it, is empty."""

    number: int
    aliases: tuple[str, ...]
    decision: str
    test: str  # accuracy
    holdout: str  # accuracy, with its 95 % interval if the size of the holdout is known
    config: str  # what differs from its recipe
    data: str
    created: str  # UTC
    size: str  # of the model's file
    params: Mapping[str, str] = field(default_factory=dict)  # of its run
    folder: Path | None = None  # that its data were in

    @property
    def title(self) -> str:
        return " ".join([str(self.number), *(alias.replace("_", " ") for alias in self.aliases)])


def versions(registry: Registry) -> list[VersionSummary]:
    """Return all versions, the oldest first."""
    aliases = registry.aliases
    return [_version(each, aliases) for each in model_versions(registry.name)]


class State(NamedTuple):
    """What tells a version from another one of its number, made after it was deleted, and from what it was before."""

    created: datetime
    tags: Mapping[str, str]
    aliases: tuple[str, ...]


def state(registry: Registry, version: int) -> State:
    """Return the state of a version as the registry has it now."""
    found = client().get_model_version(registry.name, str(version))
    return State(_created(found), dict(found.tags), tuple(sorted(found.aliases)))


def card(registry: Registry, version: int) -> dict[str, Any]:
    """Return what a version is worth, its aliases, and when it was promoted."""
    found = client().get_model_version(registry.name, str(version))
    test, holdout = _accuracies(found)
    promotions = [entry for entry in registry.history() if entry.champion == version != entry.champion_before]
    return {
        "name": registry.name,
        "version": version,
        "test_accuracy": test,
        "holdout_accuracy": holdout,
        "promoted": promotions[-1].time if promotions else None,
        "aliases": sorted(found.aliases),
        "run_id": found.run_id,
    }


def differences(old: VersionSummary, new: VersionSummary) -> list[tuple[str, str, str]]:
    """Return what differs between two versions, and the values of both: config, data, results."""
    names = [name for name in {**old.params, **new.params} if old.params.get(name) != new.params.get(name)]
    rows = [(name, old.params.get(name, ""), new.params.get(name, "")) for name in names]
    facts = ("data", "test", "holdout", "decision", "size", "created")
    rows += [(name, getattr(old, name), getattr(new, name)) for name in facts]
    return [row for row in rows if any(row[1:])]


def _version(found: Any, aliases: Mapping[str, int]) -> VersionSummary:
    tags, config, params, folder = found.tags, "", {}, None
    with ignore_mlflow_errors("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # purged, or none
        run = client().get_run(found.run_id or "none")
        config, params = run.info.run_name or "", run.data.params
        for each in run.inputs.dataset_inputs if run.inputs else ():
            folder = Path(json.loads(each.dataset.source)["uri"])
    test, holdout = _accuracies(found)
    holdout_size = params.get("holdout_size") or params.get("exam_size")
    return VersionSummary(
        number=int(found.version),
        aliases=tuple(sorted(name for name, number in aliases.items() if number == int(found.version))),
        decision=", ".join(filter(None, (tags.get("decision", ""), "pruned" * (ledger.PRUNED in tags)))),
        test="" if test is None else percent(test),
        holdout="" if holdout is None else _accuracy(holdout, holdout_size),
        config=config,
        data=tags.get("data", ""),
        created=f"{_created(found):%Y-%m-%d %H:%M}",
        size=_size(logged_model_id(found)),
        params=params,
        folder=folder,
    )


def _created(found: Any) -> datetime:
    return datetime.fromtimestamp(created(found) / 1000, UTC)


def _accuracies(found: Any) -> tuple[float | None, float | None]:
    """Return a version's accuracy on test and on the holdout; None for a tag that is missing, or is no accuracy."""
    tags: Mapping[str, str] = found.tags
    texts = tags.get("test_accuracy", ""), tags.get("holdout_accuracy") or tags.get("exam_accuracy", "")  # 0.1's
    test, holdout = (float(text) if re.fullmatch(r"[01](\.\d+)?", text) else None for text in texts)
    return test, holdout


def _accuracy(accuracy: float, total: str | None) -> str:
    return interval_text(round(accuracy * int(total)), int(total)) if total else percent(accuracy)


def _size(model_id: str | None) -> str:
    """Return the size of the exported model's file."""
    size = 0
    if not model_id:
        return ""
    with contextlib.suppress(Exception):  # whatever a store says of files that are gone
        size = sum(file.file_size or 0 for file in client().list_logged_model_artifacts(model_id, "data"))
    return f"{size / 1e3:,.0f} kB" if size else ""


def runs_not_kept(registry: Registry, latest: int) -> set[str]:
    """Return the ids of the runs that made those of the `latest` versions that were rejected or rolled back."""
    not_kept = ("rejected", "rolled back")
    return {
        each.run_id
        for each in model_versions(registry.name)[-latest:]
        if each.run_id and (last := _last_entry(each)) and last.action in not_kept
    }


def settled(registry: Registry, fingerprint: str, gate: Gate) -> str | None:
    """Return which version a training with that fingerprint would make again, if what was decided on it still holds.

    It is the champion, someone rolled it back or replaced it, or this `gate` rejected it in favour of the version that
    is still the champion.
    """
    champion, history = registry.champion, registry.history()
    for version in reversed(model_versions(registry.name)):
        if version.tags.get("fingerprint") != fingerprint:
            continue
        number = int(version.version)
        if number == champion:
            return f"version {champion}, the champion"
        about = [each for each in history if number in (each.version, each.champion_before, each.champion)]
        last = about[-1] if about else None
        if last and last.action == "rejected" and last.version == number:
            if last.champion == champion and last.limits in ({}, gate.limits):
                return f"version {number}, which was rejected"
        elif last and last.action == "rolled back" and last.version == number:
            return f"version {number}, which was rolled back"
        elif last and (last.action == "promoted by hand" or (champion and last.champion == number)):  # in MLflow's UI
            return f"version {number}, which was replaced by hand"
    return None


def _last_entry(version: Any) -> LedgerEntry | None:
    return next(reversed(ledger.entries_of(version)), None)
