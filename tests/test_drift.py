"""How far data have moved: nowhere, by chance, or for good."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mnist_pipeline import data, drift
from mnist_pipeline.config import Schema
from mnist_pipeline.data import Examples, Splits
from mnist_pipeline.drift import Profile, Shift


def verdicts(reference: Profile, part: Examples) -> dict[str, str]:
    return {shift.statistic: shift.verdict for shift in drift.shifts(reference, part)}


@pytest.fixture(scope="module")
def reference(splits: Splits) -> Profile:
    return drift.profile(splits.train, splits.schema)


def test_the_index_is_what_its_formula_gives() -> None:
    before, now = np.array([500_000, 500_000]), np.array([800_000, 200_000])
    expected = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert drift.stability_index(before, now) == pytest.approx(expected, abs=1e-4)
    assert drift.stability_index(before, before) == 0
    assert np.isfinite(drift.stability_index(np.array([10, 0]), np.array([0, 10])))


def test_chance_alone_seldom_exceeds_what_is_put_down_to_it() -> None:
    random = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    pairs = [(random.multinomial(200, shares), random.multinomial(300, shares)) for _ in range(2000)]
    assert sum(drift.stability_index(*pair) > drift.by_chance(*pair) for pair in pairs) < 10


def test_other_images_of_mnist_have_not_moved(reference: Profile, splits: Splits) -> None:
    assert set(verdicts(reference, splits.exam).values()) == {"none"}


@pytest.mark.parametrize(
    ("change", "statistic"),
    [
        (lambda images: images // 2, "brightness"),
        (lambda images: (images.int() + 60).clamp(0, 255).to(torch.uint8), "contrast"),
        (lambda images: images.roll(3, dims=1), "height of the light"),
        (lambda images: images.roll(3, dims=2), "side of the light"),
    ],
)
def test_each_statistic_sees_what_it_is_for(reference: Profile, splits: Splits, change: object, statistic: str) -> None:
    assert callable(change)
    moved = data.examples(change(splits.exam.pixels), splits.exam.labels)
    assert verdicts(reference, moved)[statistic] == "large"


def test_so_do_the_classes(reference: Profile, splits: Splits) -> None:
    rows = (splits.exam.labels != 7) | (torch.arange(10_000) < 300)
    fewer = data.examples(splits.exam.pixels[rows], splits.exam.labels[rows])
    (classes, *others) = drift.shifts(reference, fewer)
    assert isinstance(classes, Shift)
    assert classes.statistic == "classes"
    assert classes.verdict == "large" or classes.verdict == "moderate"
    assert classes.before.startswith("7: 10.")
    assert {shift.verdict for shift in others} == {"none"}


def test_a_handful_of_images_may_differ_by_chance(reference: Profile, splits: Splits) -> None:
    handful = data.examples(splits.exam.pixels[:12], splits.exam.labels[:12])
    assert set(verdicts(reference, handful).values()) <= {"none", "may be chance"}


def test_a_profile_comes_back_from_json_as_it_was(splits: Splits) -> None:
    schema = Schema(("null", *splits.schema.classes[1:]))
    profile = drift.profile(replace(splits.exam), schema)
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
