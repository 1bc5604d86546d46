"""What was served, watched: drift, confidence, corrections and latency, and a verdict: fine, look, or retrain."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from mnist_pipeline.data import drift
from mnist_pipeline.data.drift import Profile, Shift
from mnist_pipeline.data.splits import Examples
from mnist_pipeline.interval import interval_text, wilson
from mnist_pipeline.monitoring.options import Watch, review_command
from mnist_pipeline.monitoring.served import Served, contradicting, once_an_image
from mnist_pipeline.text import aligned, counted, percent

Verdict = Literal["fine", "look", "retrain"]
Distribution = tuple[Sequence[str], np.ndarray, np.ndarray]  # names, and the share of each before and now

MIN_IMAGES = 50  # of which the distance of two histograms says something
MIN_EXPECTED = 5  # images in a bin, for the distance to be nearly χ² distributed (Cochran, 1954)
SURE = 0.9  # the confidence whose share of the answers is reported
BIAS = "biased: mostly wrong answers get corrected"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is known of the version that is watched; what was not logged with it, by version 0.1, is empty."""

    version: int
    profile: Profile | None = None  # of its training images
    coverage: Sequence[Mapping[str, Any]] = ()  # of the holdout, as `evaluation.coverage` returned it
    learnt: frozenset[tuple[str, str]] = frozenset()  # image and label of the corrections that were learnt from


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was found, and what follows."""

    verdict: Verdict
    reasons: tuple[str, ...]
    rows: list[dict[str, Any]]  # the table: statistic, before, now, stability_index, verdict
    metrics: dict[str, float]
    corrections: list[Served] = field(repr=False)  # to learn from: those that count, each of another image
    distributions: dict[str, Distribution] = field(default_factory=dict, repr=False)  # to be drawn

    @property
    def indices(self) -> dict[str, float]:
        """The stability index of each statistic."""
        return {row["statistic"]: row["stability_index"] for row in self.rows if row["stability_index"] is not None}

    @property
    def message(self) -> str:
        return f"{self.verdict.capitalize()}: {'; '.join(self.reasons)}"

    def __str__(self) -> str:
        lines = [["statistic", "before", "now", "stability index", "verdict"]]
        for row in self.rows:
            index = row["stability_index"]
            number = "" if index is None else f"{index:.2f}"
            lines.append([row["statistic"], row["before"], row["now"], number, row["verdict"]])
        return aligned(lines)


def watch(answers: Sequence[Served], corrections: Sequence[Served], reference: Reference, options: Watch) -> Watched:
    """Judge the `answers` of a version, and the `corrections` of its model's answers, whichever version gave them."""
    kind = _kind((*answers, *corrections), reference)
    answers, corrections = ([each for each in part if _kind([each]) == kind] for part in (answers, corrections))
    shifts = _shifts(answers, reference)
    counted_reviews = ("accepted", "") if options.trust_feedback else ("accepted",)
    counting = [each for each in corrections if each.review in counted_reviews]
    unclear = {each.image_sha256 for each in contradicting(counting)}
    usable = [each for each in once_an_image(counting) if each.image_sha256 not in unclear]
    new = [each for each in usable if (each.image_sha256, each.correct) not in reference.learnt]
    waiting = sum(each.review == "" for each in corrections)
    corrected = [each for each in answers if each.correct is not None and each.review != "rejected"]
    wrong = sum(each.correct != each.label for each in corrected if each.review in counted_reviews)

    retrain = [_drift(shift, drift.LARGE, "retrain") for shift in shifts if shift.verdict == "large"]
    if len(new) >= options.min_corrections:
        noun = "correction" if options.trust_feedback else "reviewed correction"
        retrain.append(f"{counted(len(new), noun)} that it has not learnt from")
    review = review_command(options.log)
    look = [_drift(shift, drift.MODERATE, "look") for shift in shifts if shift.verdict == "moderate"]
    if unclear:
        look.append(
            f"{counted(len(unclear), 'image')} with contradicting corrections, which count for nothing: {review}"
        )
    if waiting and not options.trust_feedback:
        look.append(f"{counted(waiting, 'correction')} to be reviewed: {review}")
    if not answers:
        look.append(f"version {reference.version} has answered nothing in the last {options.since}")
    elif not (reference.profile and reference.coverage):
        look.append(f"drift cannot be known: version {reference.version} was registered without what it needs")
    if answers and _is_worse(wrong, len(answers), reference):
        look.append(f"at least {percent(wrong / len(answers), 1)} of its answers were wrong, more than on the holdout")
    verdict: Verdict = "retrain" if retrain else "look" if look else "fine"
    drifted = "no drift" if len(answers) >= MIN_IMAGES else f"too few to detect drift (it takes {MIN_IMAGES})"
    fine = f"{counted(len(answers), 'image')}, {drifted}, {counted(len(new), 'new correction')}"
    rows = [asdict(shift) for shift in shifts] + _facts(answers, corrected, reference)
    metrics = _metrics(answers, corrected, shifts) | {"new_corrections": len(new), "waiting_corrections": waiting}
    return Watched(
        verdict=verdict,
        reasons=tuple(retrain + look) or (fine,),
        rows=rows,
        metrics=metrics | {"verdict": float(["fine", "look", "retrain"].index(verdict))},
        corrections=sorted(usable, key=lambda each: each.image_sha256),  # the same ones are the same data
        distributions=_distributions(answers, reference),
    )


def confidence_shift(coverage: Sequence[Mapping[str, Any]], confidences: np.ndarray) -> Shift:
    """Compare `confidences` (N,) with those on the holdout, between the steps of its `coverage`."""
    steps, answered = (np.array([row[name] for row in coverage]) for name in ("min_confidence", "answered"))
    before = -np.diff(answered, append=0)
    now = np.bincount(np.searchsorted(steps, confidences, side="right") - 1, minlength=len(steps))
    shares = (counts[steps >= SURE].sum() / counts.sum() for counts in (before, now))
    values = [f"{percent(share, 1)} at least {percent(SURE, 0)}" for share in shares]
    return drift.shift("confidence", values, *_joined(before, now))


def _kind(served: Sequence[Served], reference: Reference | None = None) -> object:
    """Return what images must have in common with what the version takes, or else with the last of `served`."""
    if reference and reference.profile:
        schema = reference.profile.schema
        return (schema.height, schema.width), schema.classes
    return (served[-1].pixels.shape, served[-1].classes) if served else None


def _shifts(answers: Sequence[Served], reference: Reference) -> list[Shift]:
    """Compare the answers with what the version learnt from, and with its confidence on the holdout."""
    if len(answers) < MIN_IMAGES:
        return []
    shifts = []
    if reference.profile:
        pixels = torch.from_numpy(np.stack([each.pixels for each in answers]))
        labels = torch.tensor([int(each.probabilities.argmax()) for each in answers])
        shifts += drift.shifts(reference.profile, Examples(pixels, labels, sha256=""))
    if reference.coverage:
        shifts.append(confidence_shift(reference.coverage, np.array([each.confidence for each in answers])))
    return shifts


def _joined(before: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join neighbouring bins until `MIN_EXPECTED` images of `now` are to be expected in each."""
    least = MIN_EXPECTED * before.sum() / now.sum()
    starts, waiting = [0], 0
    for place, count in enumerate(before):
        waiting += count
        if waiting >= least and before[place + 1 :].sum() >= least:
            starts.append(place + 1)
            waiting = 0
    return np.add.reduceat(before, starts), np.add.reduceat(now, starts)


def _drift(shift: Shift, level: float, verdict: Verdict) -> str:
    index = f"stability index {shift.stability_index:.2f}, {verdict} above {level}"
    return f"{shift.statistic} drifted, {shift.before} → {shift.now} ({index})"


def _is_worse(wrong: int, total: int, reference: Reference) -> bool:
    """Return whether the answers that are known to be wrong are, beyond chance, more than those on the holdout."""
    if not reference.coverage:
        return False
    everything = reference.coverage[0]
    right, images = int(everything["right"]), int(everything["total"])
    return wilson(wrong, total)[0] > 1 - wilson(right, images)[0]


def _facts(answers: Sequence[Served], corrected: Sequence[Served], reference: Reference) -> list[dict[str, Any]]:
    """Return the rows of the table that are no drift."""
    facts = [("images", "", f"{len(answers):,}", "" if len(answers) >= MIN_IMAGES else f"drift needs {MIN_IMAGES}")]
    if answers:
        unsure = sum(each.unsure for each in answers)
        facts.append(("unsure", "", interval_text(unsure, len(answers)), ""))
        p50, p95, p99 = _latency(answers)
        facts.append(("latency", "", f"{p50:.1f}, {p95:.1f}, {p99:.1f} ms", "median, 95 %, 99 %"))
    if corrected:
        right = sum(each.correct == each.label for each in corrected)
        on_holdout = percent(reference.coverage[0]["accuracy"]) if reference.coverage else ""
        facts.append(("accuracy on corrected images", on_holdout, interval_text(right, len(corrected)), BIAS))
    return [
        {"statistic": name, "before": before, "now": now, "stability_index": None, "verdict": note}
        for name, before, now, note in facts
    ]


def _metrics(answers: Sequence[Served], corrected: Sequence[Served], shifts: Sequence[Shift]) -> dict[str, float]:
    metrics: dict[str, float] = {f"drift/{shift.statistic}": shift.stability_index for shift in shifts}
    metrics |= {"images": len(answers), "corrected": len(corrected)}
    if answers:
        metrics["sure_share"] = float(np.mean([each.confidence >= SURE for each in answers]))
        metrics["unsure_share"] = float(np.mean([each.unsure for each in answers]))
        metrics |= dict(zip(("latency_p50_ms", "latency_p95_ms", "latency_p99_ms"), _latency(answers), strict=True))
    if corrected:
        metrics["corrected_accuracy"] = float(np.mean([each.correct == each.label for each in corrected]))
    return metrics


def _latency(answers: Sequence[Served]) -> list[float]:
    """Return the median, the 95th and the 99th percentile of the milliseconds that an image's answer took."""
    return [float(value) for value in np.quantile([1000 * each.seconds for each in answers], (0.5, 0.95, 0.99))]


def _distributions(answers: Sequence[Served], reference: Reference) -> dict[str, Distribution]:
    """Return the shares of the classes, and of the answers that are at least so confident."""
    found: dict[str, Distribution] = {}
    if reference.profile and answers:
        names, trained = reference.profile.schema.classes, np.array(reference.profile.class_counts)
        served = np.bincount([each.probabilities.argmax() for each in answers], minlength=len(names))
        found["classes"] = (names, trained / trained.sum(), served / served.sum())
    if reference.coverage and answers:
        steps, shares = (np.array([row[name] for row in reference.coverage]) for name in ("min_confidence", "share"))
        confidences = np.array([each.confidence for each in answers])
        now = (confidences[:, None] >= steps).mean(axis=0)
        found["confidence"] = ([f"{step:g}" for step in steps], shares, now)
    return found
