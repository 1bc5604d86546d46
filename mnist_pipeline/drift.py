"""How far new data have moved from those that the champion learnt from: a profile of each, and their distance. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2

from mnist_pipeline.config import Schema
from mnist_pipeline.data import Examples

BINS = 10
SAMPLE = 20_000  # images of a set that are measured: more would not change what is seen
MODERATE, LARGE = 0.1, 0.25  # the rule of thumb of credit scoring, where the index comes from
BY_CHANCE = 0.001  # how often two samples of the same kind may lie so far apart that it is told


@dataclass(frozen=True)
class Statistic:
    """One number of each image, over a set: its mean, its spread, and how many images fall in each of its bins."""

    mean: float
    std: float
    edges: tuple[float, ...]  # between the bins, in which the reference has about as many images each
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """What a training split looks like, small enough to be kept with its run."""

    schema: Schema
    classes: tuple[int, ...]  # images of each
    statistics: Mapping[str, Statistic]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Profile":
        statistics = {
            name: Statistic(each["mean"], each["std"], tuple(each["edges"]), tuple(each["counts"]))
            for name, each in fields["statistics"].items()
        }
        return cls(Schema.from_json(fields["schema"]), tuple(fields["classes"]), statistics)


@dataclass(frozen=True)
class Shift:
    """How far one statistic has moved."""

    statistic: str
    before: str
    now: str
    index: float  # the population stability index
    verdict: str


def profile(part: Examples, schema: Schema) -> Profile:
    """Describe `part` by what can be told of each image: how bright it is, how much it varies, where its light lies."""
    statistics = {}
    for name, values in _measure(part).items():
        edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
        statistics[name] = _statistic(values, edges)
    counts = torch.bincount(part.labels, minlength=len(schema.classes))
    return Profile(schema, tuple(counts.tolist()), statistics)


def shifts(reference: Profile, part: Examples) -> list[Shift]:
    """Compare `part` with `reference`, statistic by statistic; the classes' shares come first."""
    counts = torch.bincount(part.labels, minlength=len(reference.classes)).numpy()
    old = np.array(reference.classes)
    moved = int(np.abs(counts / counts.sum() - old / old.sum()).argmax())
    name = reference.schema.classes[moved]
    words = [f"{name}: {each[moved] / each.sum():.1%}" for each in (old, counts)]
    rows = [_shift("classes", words, old, counts)]
    for name, values in _measure(part).items():
        before = reference.statistics[name]
        now = _statistic(values, np.array(before.edges))
        words = [f"{each.mean:.3f} ± {each.std:.3f}" for each in (before, now)]
        rows.append(_shift(name, words, np.array(before.counts), np.array(now.counts)))
    return rows


def stability_index(before: np.ndarray, now: np.ndarray) -> float:
    """Give the population stability index of two rows of counts: Σ (q − p) ln (q / p) over their shares.

    Half an image is added to each bin, so that an empty one counts for much but not for infinitely much.
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def by_chance(before: np.ndarray, now: np.ndarray) -> float:
    """Give the index that two samples of one kind exceed in one of a thousand cases.

    The index is nearly Σ (q − p)² / p, which chance alone makes χ² distributed, times (1/n + 1/m) (Yurdakul, 2018,
    "Statistical Properties of Population Stability Index").
    """
    return float(chi2.isf(BY_CHANCE, len(before) - 1) * (1 / before.sum() + 1 / now.sum()))


def _shift(statistic: str, words: list[str], before: np.ndarray, now: np.ndarray) -> Shift:
    index = stability_index(before, now)
    verdict = "large" if index > LARGE else "moderate" if index > MODERATE else "none"
    if verdict != "none" and index < by_chance(before, now):
        verdict = "may be chance"
    return Shift(statistic, words[0], words[1], index, verdict)


def _measure(part: Examples) -> dict[str, np.ndarray]:
    """Give numbers of each image of `part`, or of a sample, (N,) each; the places are shares of height and width."""
    _, height, width = part.pixels.shape
    flat = part.images[:: -(-len(part) // SAMPLE)].flatten(1)
    rows = torch.linspace(0, 1, height).repeat_interleave(width)
    columns = torch.linspace(0, 1, width).repeat(height)
    sums = flat @ torch.stack([torch.ones_like(rows), rows, columns], dim=1)
    brightness = sums[:, 0] / flat.shape[1]
    power = torch.linalg.vector_norm(flat, dim=1).square() / flat.shape[1]
    places = sums[:, 1:] / sums[:, :1].clamp_min(1e-6)
    return {
        "brightness": brightness.numpy(),
        "contrast": (power - brightness.square()).clamp_min(0).sqrt().numpy(),
        "height of the light": places[:, 0].numpy(),
        "side of the light": places[:, 1].numpy(),
    }


def _statistic(values: np.ndarray, edges: np.ndarray) -> Statistic:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=BINS)
    return Statistic(float(values.mean()), float(values.std()), tuple(map(float, edges)), tuple(map(int, counts)))
