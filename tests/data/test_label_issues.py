"""Wrong labels are found, the holdout is left alone, and the table is one that can be given back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from mnist_pipeline.config import FieldError
from mnist_pipeline.data import label_issues, manifest
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits, development, load_splits
from tests.data.files import random_pixels, write_pictures


@pytest.fixture
def pets(tmp_path: Path) -> Splits:
    for seed, name in enumerate(("cat", "dog")):
        pixels = random_pixels(30, 8, 8, seed=seed)
        write_pictures(tmp_path / "pets" / name, np.concatenate([pixels, pixels[:5]]))
    return load_splits(DataSource(dataset=str(tmp_path / "pets")), tmp_path / "pets")


def test_labels_that_are_confidently_another_are_found_the_worst_first() -> None:
    labels = np.repeat([0, 1, 2], 50)
    probabilities = np.full((150, 3), 0.05)
    probabilities[np.arange(150), labels] = 0.9
    labels[[3, 60]] = 2, 0
    probabilities[3] = 0.9, 0.08, 0.02
    rows, likely = label_issues.find(labels, probabilities)
    assert rows.tolist() == [3, 60]
    assert likely.tolist() == [0, 1]


def test_nothing_is_found_where_every_label_is_the_likeliest_class_or_a_class_has_no_image() -> None:
    probabilities = np.eye(3)[np.repeat([0, 1], 20)] * 0.7 + 0.1
    assert label_issues.find(np.repeat([0, 1], 20), probabilities)[0].tolist() == []


def test_folds_are_stratified_keep_copies_together_and_leave_the_holdout_alone(pets: Splits) -> None:
    part, folds = development(pets, folds=4, seed=0)
    assert len(part) == len(pets.train) + len(pets.test)
    assert part.names is not None
    assert pets.holdout.names is not None
    assert not {*part.names} & {*pets.holdout.names}
    counts = np.array([np.bincount(part.labels[torch.from_numpy(folds == each)], minlength=2) for each in range(4)])
    assert counts.min() > 2
    of_image: dict[bytes, int] = {}
    for image, fold in zip(part.pixels, folds.tolist(), strict=True):
        assert of_image.setdefault(image.numpy().tobytes(), fold) == fold
    with pytest.raises(FieldError, match="folds must be at most the"):
        development(pets, folds=90, seed=0)


def test_the_table_is_written_once_and_names_are_no_formulas(tmp_path: Path) -> None:
    issues = [label_issues.LabelIssue(0, "=cat/1.png", "train", "cat", "dog", 0.9)]
    label_issues.write_csv(issues, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text("utf-8-sig").splitlines()
    assert lines == ["file,set,label,likely,confidence", "'=cat/1.png,train,cat,dog,0.9000"]
    with pytest.raises(FileExistsError):
        label_issues.write_csv(issues, tmp_path / "a.csv")


def test_a_manifest_has_a_row_for_each_image_with_its_hash(pets: Splits, tmp_path: Path) -> None:
    manifest.write(pets, tmp_path / "m.parquet")
    rows = parquet.read_table(tmp_path / "m.parquet").to_pylist()
    assert len(rows) == 70
    assert {row["set"] for row in rows} == {"train", "test", "holdout"}
    assert all(row["file"].startswith(row["label"]) and len(row["sha256"]) == 64 for row in rows)
