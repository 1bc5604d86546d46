"""What was served is judged: drift, corrections, and what follows from them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_pipeline.config import FieldError
from mnist_pipeline.data import drift, folders
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.splits import Examples, Splits
from mnist_pipeline.monitoring import review
from mnist_pipeline.monitoring.options import Watch
from mnist_pipeline.monitoring.served import Review, Served
from mnist_pipeline.monitoring.verdict import BIAS, Reference, confidence_shift, watch
from mnist_pipeline.training.evaluation import coverage
from tests.answers import answer


def probabilities(labels: torch.Tensor, *, unsure: float = 0.05) -> torch.Tensor:
    """Return what a network might: sure of `labels`, but for a share that is unsure, (N, 10)."""
    rng = torch.Generator().manual_seed(len(labels))
    doubtful = torch.rand(len(labels), generator=rng) < unsure
    confidence = torch.where(doubtful, 0.6, 0.995)[:, None]
    rows = ((1 - confidence) / 9).repeat(1, 10)
    return rows.scatter(1, labels[:, None], confidence)


@pytest.fixture(scope="module")
def reference(splits: Splits) -> Reference:
    rows = coverage(probabilities(splits.holdout.labels), splits.holdout.labels)
    table = [
        {"min_confidence": row.min_confidence, "answered": row.answered, "right": row.right, "total": row.total}
        | {"share": row.share, "accuracy": row.accuracy}
        for row in rows
    ]
    return Reference(version=1, profile=drift.profile(splits.train, splits.schema), coverage=table)


def answers(part: Examples, *, count: int = 300, unsure: float = 0.05) -> list[Served]:
    rows = probabilities(part.labels[:count], unsure=unsure).numpy()
    return [
        answer(number, pixels, row, seconds=0.002)
        for number, (pixels, row) in enumerate(zip(part.pixels.numpy(), rows, strict=False))
    ]


def corrected(served: Sequence[Served], label: str, state: Review) -> list[Served]:
    return [replace(each, correct=label, review=state) for each in served]


def test_images_like_those_of_the_training_are_fine(splits: Splits, reference: Reference) -> None:
    watched = watch(answers(splits.holdout), [], reference, Watch())
    assert watched.verdict == "fine", watched.message
    assert watched.message == "Fine: 300 images, no drift, 0 new corrections"
    assert set(watched.indices) == {"classes", *drift.profile(splits.test, splits.schema).statistics, "confidence"}
    assert watched.metrics["latency_p95_ms"] == pytest.approx(2)


def test_too_few_images_to_tell_drift_are_said_to_be(splits: Splits, reference: Reference) -> None:
    watched = watch(answers(splits.holdout, count=3), [], reference, Watch())
    assert watched.message == "Fine: 3 images, too few to detect drift (it takes 50), 0 new corrections"


def test_images_of_another_kind_ask_for_a_retraining_and_say_why(splits: Splits, reference: Reference) -> None:
    inverted = replace(splits.holdout, pixels=255 - splits.holdout.pixels)
    watched = watch(answers(inverted), [], reference, Watch())
    assert watched.verdict == "retrain"
    assert "brightness drifted" in watched.message


def test_a_version_that_is_less_sure_than_on_the_holdout_is_noticed(splits: Splits, reference: Reference) -> None:
    watched = watch(answers(splits.holdout, unsure=0.4), [], reference, Watch())
    assert watched.verdict == "retrain"
    assert "confidence drifted" in watched.message


def test_too_few_images_are_no_drift(splits: Splits, reference: Reference) -> None:
    inverted = replace(splits.holdout, pixels=255 - splits.holdout.pixels)
    assert watch(answers(inverted, count=30), [], reference, Watch()).verdict == "fine"


@pytest.mark.parametrize(
    ("state", "trust", "verdict"),
    [("accepted", False, "retrain"), ("", False, "look"), ("", True, "retrain"), ("rejected", True, "fine")],
)
def test_corrections_count_once_they_are_reviewed_unless_feedback_is_trusted(
    splits: Splits, reference: Reference, state: Review, trust: bool, verdict: str
) -> None:
    served = answers(splits.holdout)
    found = corrected(served[:25], "7", state)
    watched = watch(served, found, reference, Watch(trust_feedback=trust))
    assert watched.verdict == verdict, watched.message


def test_an_image_counts_once_however_often_it_is_corrected(splits: Splits, reference: Reference) -> None:
    served = answers(splits.holdout)
    flood = [replace(served[0], id=f"{n}", correct="7", review="accepted") for n in range(100)]
    watched = watch(served, flood, reference, Watch())
    assert len(watched.corrections) == watched.metrics["new_corrections"] == 1
    assert watched.verdict == "fine"


def test_corrections_that_were_learnt_from_do_not_count_again(
    splits: Splits, reference: Reference, tmp_path: Path
) -> None:
    served = answers(splits.holdout)
    found = corrected(served[:25], "7", "accepted")
    _, table = review.write(tmp_path, found)
    known = replace(reference, learnt=review.learnt(table.read_text()))
    assert watch(served, found, known, Watch()).verdict == "fine"
    other = corrected(served[:25], "8", "accepted")
    assert watch(served, other, known, Watch()).verdict == "retrain"


def test_more_known_mistakes_than_on_the_holdout_are_worth_a_look(splits: Splits, reference: Reference) -> None:
    served = answers(splits.holdout)
    wrong = [replace(each, correct=str((int(each.label) + 1) % 10), review="accepted") for each in served[:15]]
    watched = watch([*wrong, *served[15:]], wrong, reference, Watch())
    assert "at least 5.0 % of its answers were wrong" in watched.message
    assert any(row["verdict"] == BIAS for row in watched.rows)


def test_a_version_of_which_nothing_is_known_is_said_to_be_so(splits: Splits) -> None:
    watched = watch(answers(splits.holdout), [], Reference(version=1), Watch())
    assert watched.verdict == "look"
    assert "drift cannot be known" in watched.message


def test_images_of_another_size_or_other_classes_are_left_out(splits: Splits, reference: Reference) -> None:
    served = answers(splits.holdout)
    strangers = [replace(each, pixels=each.pixels[:20]) for each in served[:50]]
    strangers += [replace(each, classes=tuple("abcdefghij")) for each in served[:50]]
    watched = watch([*served, *strangers], corrected(strangers, "7", "accepted"), reference, Watch())
    assert (watched.metrics["images"], watched.corrections) == (300, [])


def test_confidence_is_compared_between_steps_that_hold_enough_images(reference: Reference) -> None:
    shift = confidence_shift(reference.coverage, np.array([0.995] * 57 + [0.6] * 3))
    assert shift.verdict == "none"
    assert shift.now == "95.0 % at least 90 %"


def test_accepted_corrections_become_images_to_learn_from_as_they_were(splits: Splits, tmp_path: Path) -> None:
    found = corrected(answers(splits.holdout)[:5], "7", "accepted")
    folder = review.write_extra(found, home=tmp_path)
    assert review.write_extra(found, home=tmp_path) == folder
    assert folder.parent == tmp_path / "corrections" / "mnist-mlp"
    read = folders.read_more(folder, splits.schema, tmp_path)
    assert (read.pixels == np.stack([each.pixels for each in found])).all()
    assert read.labels.tolist() == [7] * 5
    assert [*folder.parent.iterdir()] == [folder]
    (folder / "train-labels-idx1-ubyte").unlink()  # by someone who tidies up
    (folder / "classes.txt").write_text("8\n")
    assert review.write_extra(found, home=tmp_path) == folder
    assert folders.read_more(folder, splits.schema, tmp_path).labels.tolist() == [7] * 5
    many = Schema(tuple(f"sign {number}" for number in range(300)))
    named = [replace(each, classes=many.classes, correct="sign 299") for each in found]
    assert folders.read_more(review.write_extra(named, home=tmp_path), many, tmp_path).labels.tolist() == [299] * 5


@pytest.mark.parametrize("wrong", [{"since": "soon"}, {"min_corrections": 0}, {"log": ()}])
def test_a_value_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FieldError):
        Watch(**wrong)  # type: ignore[arg-type]
