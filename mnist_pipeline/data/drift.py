"""How far new data have drifted from those that the champion learnt from: profiles and their distance. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2

from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.splits import Examples
from mnist_pipeline.text import percent

BINS = 10
SAMPLE = 20_000  # images of a set that are measured: more would not change the result
MODERATE, LARGE = 0.1, 0.25  # the rule of thumb of credit scoring, where the index comes from
RENAMED = {"height of the light": "vertical centre", "side of the light": "horizontal centre"}  # since 0.1
BY_CHANCE = 0.001  # how often two samples of the same kind may be reported as drift
MAY_BE_CHANCE = "may be chance"  # the verdict on an index that two samples of one kind may have


@dataclass(frozen=True)
class Statistic:
    """A number of each image, over a set: its mean, its standard deviation, and a histogram."""

    mean: float
    std: float
    edges: tuple[float, ...]  # between the bins, each of which holds about as many images of the reference
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """What a training split looks like, small enough to be logged with its run."""

    schema: Schema
    class_counts: tuple[int, ...]
    statistics: Mapping[str, Statistic]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Profile":
        """Return the profile that `to_json` wrote. Version 0.1 had other names for some fields."""
        statistics = {
            RENAMED.get(name, name): Statistic(each["mean"], each["std"], tuple(each["edges"]), tuple(each["counts"]))
            for name, each in fields["statistics"].items()
        }
        counts = fields.get("class_counts") or fields["classes"]
        return cls(Schema.from_json(fields["schema"]), tuple(counts), statistics)


@dataclass(frozen=True)
class Shift:
    """How far one statistic has drifted."""

    statistic: str
    before: str
    now: str
    stability_index: float
    verdict: str


def profile(part: Examples, schema: Schema) -> Profile:
    """Describe `part` by the brightness and contrast of its images, and by where their centre of mass is."""
    statistics = {}
    for name, values in _measure(part).items():
        edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
        statistics[name] = _statistic(values, edges)
    counts = torch.bincount(part.labels, minlength=len(schema.classes))
    return Profile(schema, tuple(counts.tolist()), statistics)


def shifts(reference: Profile, part: Examples) -> list[Shift]:
    """Compare `part` with `reference`, statistic by statistic; the shares of the classes come first."""
    counts = torch.bincount(part.labels, minlength=len(reference.class_counts)).numpy()
    old = np.array(reference.class_counts)
    moved = int(np.abs(counts / counts.sum() - old / old.sum()).argmax())
    name = reference.schema.classes[moved]
    values = [f"{name}: {percent(each[moved] / each.sum(), 1)}" for each in (old, counts)]
    rows = [shift("classes", values, old, counts)]
    for name, measured in _measure(part).items():
        before = reference.statistics[name]
        now = _statistic(measured, np.array(before.edges))
        values = [f"{each.mean:.3f} ± {each.std:.3f}" for each in (before, now)]
        rows.append(shift(name, values, np.array(before.counts), np.array(now.counts)))
    return rows


def stability_index(before: np.ndarray, now: np.ndarray) -> float:
    """Return the population stability index of two histograms: Σ (q − p) ln (q / p) over their shares.

    Half an image is added to each bin, so that an empty one does not make it infinite.
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def chance_index(before: np.ndarray, now: np.ndarray) -> float:
    """Return the index that two samples of one kind exceed in one of a thousand cases.

    The index is nearly Σ (q − p)² / p, which by chance alone is χ² distributed, times (1/n + 1/m) (Yurdakul, 2018,
    "Statistical Properties of Population Stability Index").
    """
    return float(chi2.isf(BY_CHANCE, len(before) - 1) * (1 / before.sum() + 1 / now.sum()))


def shift(statistic: str, values: list[str], before: np.ndarray, now: np.ndarray) -> Shift:
    """Compare two histograms over the same bins; `values` say in words what each is."""
    index = stability_index(before, now)
    verdict = "large" if index > LARGE else "moderate" if index > MODERATE else "none"
    if verdict != "none" and index < chance_index(before, now):
        verdict = MAY_BE_CHANCE
    return Shift(statistic, values[0], values[1], round(index, 4), verdict)


def _measure(part: Examples) -> dict[str, np.ndarray]:
    """Return numbers of each image in a sample of `part`, (N,) each; the centres are shares of height and width."""
    _, height, width = part.pixels.shape
    flat = part.images[:: -(-len(part) // SAMPLE)].flatten(1)
    rows = torch.linspace(0, 1, height).repeat_interleave(width)
    columns = torch.linspace(0, 1, width).repeat(height)
    sums = flat @ torch.stack([torch.ones_like(rows), rows, columns], dim=1)
    brightness = sums[:, 0] / flat.shape[1]
    power = torch.linalg.vector_norm(flat, dim=1).square() / flat.shape[1]
    centres = sums[:, 1:] / sums[:, :1].clamp_min(1e-6)
    return {
        "brightness": brightness.numpy(),
        "contrast": (power - brightness.square()).clamp_min(0).sqrt().numpy(),
        "vertical centre": centres[:, 0].numpy(),
        "horizontal centre": centres[:, 1].numpy(),
    }


def _statistic(values: np.ndarray, edges: np.ndarray) -> Statistic:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=BINS)
    return Statistic(float(values.mean()), float(values.std()), tuple(map(float, edges)), tuple(map(int, counts)))
