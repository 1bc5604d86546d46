"""Decisions of a gate, for tests that need no network."""

from mnist_pipeline.tracking.gate import Check, Decision
from mnist_pipeline.tracking.registry import Registry

YES = Decision((Check("floor", True, "good enough"),), {"accuracy": 0.98})
NO = Decision((Check("floor", False, "too bad"),), {"accuracy": 0.1})


def evaluate_challenger(registry: Registry, version: int, decision: Decision) -> None:
    registry.evaluate_challenger(version, lambda _champion: decision, holdout_sha256="e")
