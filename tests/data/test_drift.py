"""Drift is found where data have moved, and not where they differ by chance."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mnist_pipeline.data import drift
from mnist_pipeline.data.drift import Profile
from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.splits import Examples, Splits, make_examples


def examples(pixels: torch.Tensor, labels: torch.Tensor) -> Examples:
    return make_examples(LabelledImages(pixels.numpy(), labels.numpy()))


def verdicts(reference: Profile, part: Examples) -> dict[str, str]:
    return {shift.statistic: shift.verdict for shift in drift.shifts(reference, part)}


@pytest.fixture(scope="module")
def reference(splits: Splits) -> Profile:
    return drift.profile(splits.train, splits.schema)


def test_the_stability_index_follows_its_formula_and_is_finite_for_an_empty_bin() -> None:
    before, now = np.array([500_000, 500_000]), np.array([800_000, 200_000])
    expected = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert drift.stability_index(before, now) == pytest.approx(expected, abs=1e-4)
    assert drift.stability_index(before, before) == 0
    assert np.isfinite(drift.stability_index(np.array([10, 0]), np.array([0, 10])))


def test_two_samples_of_one_kind_seldom_exceed_what_chance_explains() -> None:
    random = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    pairs = [(random.multinomial(200, shares), random.multinomial(300, shares)) for _ in range(2000)]
    assert sum(drift.stability_index(*pair) > drift.chance_index(*pair) for pair in pairs) < 10


def test_other_images_of_mnist_show_no_drift(reference: Profile, splits: Splits) -> None:
    assert set(verdicts(reference, splits.holdout).values()) == {"none"}


@pytest.mark.parametrize(
    ("change", "statistic"),
    [
        (lambda images: images // 2, "brightness"),
        (lambda images: (images.int() + 60).clamp(0, 255).to(torch.uint8), "contrast"),
        (lambda images: images.roll(3, dims=1), "vertical centre"),
        (lambda images: images.roll(3, dims=2), "horizontal centre"),
    ],
)
def test_each_statistic_shows_the_drift_that_it_measures(
    reference: Profile, splits: Splits, change: Callable[[torch.Tensor], torch.Tensor], statistic: str
) -> None:
    moved = examples(change(splits.holdout.pixels), splits.holdout.labels)
    assert verdicts(reference, moved)[statistic] == "large"


def test_a_class_that_became_rare_is_named(reference: Profile, splits: Splits) -> None:
    rows = (splits.holdout.labels != 7) | (torch.arange(10_000) < 300)
    fewer = examples(splits.holdout.pixels[rows], splits.holdout.labels[rows])
    classes, *others = drift.shifts(reference, fewer)
    assert classes.statistic == "classes"
    assert classes.verdict in {"moderate", "large"}
    assert classes.before.startswith("7: 10.")
    assert {shift.verdict for shift in others} == {"none"}


def test_a_handful_of_images_is_not_reported_as_drift(reference: Profile, splits: Splits) -> None:
    handful = examples(splits.holdout.pixels[:12], splits.holdout.labels[:12])
    assert set(verdicts(reference, handful).values()) <= {"none", "may be chance"}


def test_a_profile_is_read_back_from_json_as_it_was(splits: Splits) -> None:
    profile = drift.profile(splits.holdout, Schema(("null", *splits.schema.classes[1:])))
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


def test_a_profile_of_version_0_1_is_read(reference: Profile) -> None:
    fields = reference.to_json()
    fields["classes"] = fields.pop("class_counts")
    fields["schema"]["pictures"] = fields["schema"].pop("preprocessing")
    statistics = fields["statistics"]
    statistics["height of the light"] = statistics.pop("vertical centre")
    statistics["side of the light"] = statistics.pop("horizontal centre")
    assert Profile.from_json(fields) == reference
