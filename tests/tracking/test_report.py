"""The report: one file, with everything in it, and nothing that others wrote is markup."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_pipeline.config import FAST
from mnist_pipeline.data.readers import LabelledImages
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits, make_examples
from mnist_pipeline.data.validation import Finding
from mnist_pipeline.tracking.gate import Check
from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.registry import ModelVersion
from mnist_pipeline.tracking.report import MAX_TILES, Report, render
from mnist_pipeline.training.evaluation import Evaluation, Score, evaluate
from mnist_pipeline.training.loop import Epoch

HOSTILE = "<img src=x onerror=alert(1)>\udc80\u202e"
CLASSES = ("cat", HOSTILE)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 12, 8), np.uint8)
LABELS = np.arange(40) % 2
TAGS = {"git_commit": "497ba11", "git_dirty": "false", "torch": "2.14.1", "secret": "not shown"}
PNG = b"\x89PNG\r\n\x1a\n"
ENTRY = LedgerEntry(
    version=2,
    action="rejected",
    champion_before=1,
    champion=1,
    reasons=("recall falls",),
    checks=(Check("recall", False, f"recall falls (class {HOSTILE})", "at most 2.00%", "recall_margin"),),
    numbers={"wins": 3, "losses": 20},
)


@pytest.fixture
def splits(tmp_path: Path) -> Splits:
    folder = tmp_path / "<b>pets"
    folder.mkdir()
    part = make_examples(LabelledImages(PIXELS, LABELS), classes=2)
    source = DataSource(dataset=str(folder), name="pets")
    return Splits(part, part, part, source, Schema(CLASSES, 12, 8, "resized"))


def answers(wrong: list[int]) -> Evaluation:
    predicted = torch.from_numpy(LABELS).clone()
    predicted[wrong] = 1 - predicted[wrong]
    probabilities = torch.full((40, 2), 0.2).scatter(1, predicted.unsqueeze(1), 0.8)
    return evaluate(probabilities, torch.from_numpy(LABELS), CLASSES)


@pytest.fixture
def report() -> Report:
    return Report(
        config=replace(FAST, epochs=7),
        findings=[Finding("files", "warning", f"could not be read: {HOSTILE}"), Finding("leaks", "ok", "0")],
        epochs=[Epoch(1, 0.5, 0.4, Score(0.6, 0.7))],
        best_epoch=None,
        stopped="",
        figures=dict.fromkeys(("curves", "confusion_matrix", "reliability"), PNG),
        test=answers([]),
        holdout=answers([*range(20)]),
        model=ModelVersion("pets-mlp", 2, "challenger"),
    )


def html(report: Report, splits: Splits, tags: Mapping[str, str] = TAGS) -> str:
    return render(report, splits, run_id="51ad43", tags=tags)


def text(page: str) -> str:
    parser, words = HTMLParser(), list[str]()
    parser.handle_data = words.append  # type: ignore[assignment, method-assign]
    parser.feed(page.partition("<body>")[2])
    return " ".join(" ".join(words).split())


def test_the_report_needs_neither_the_network_nor_scripts(report: Report, splits: Splits) -> None:
    page = html(report, splits)
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>]{1,15})""", page.replace("&lt;img src", ""))
    assert addresses
    assert all(address.startswith("data:image/png;") for address in addresses)
    assert not re.search("<script|<link|@import|https?://", page)


def test_names_from_the_data_are_text_and_can_be_written(report: Report, splits: Splits) -> None:
    page = html(replace(report, entry=ENTRY, champion=answers([0])), splits)
    assert page.encode()  # what is not UTF-8 in a file's name is not in it
    assert "<img src=x" not in page
    assert "<b>pets" not in page
    assert r"<img src=x onerror=alert(1)>\udc80\u202e" in text(page)


def test_the_report_says_what_was_trained_on_what_and_how_well(report: Report, splits: Splits) -> None:
    said = text(html(report, splits))
    for part in (
        "pets-mlp, version 2",
        "epochs 7, fast",
        "holdout 50.00 % 35.20 to 64.80 % 20/40",
        "epochs 7 in place of the recipe's 3",
        "warning files could not be read",
        "git commit 497ba11",
        "1 of 7 epochs.",
        "8 × 12 pixels into 2 classes",
    ):
        assert part in said
    assert "not shown" not in said
    assert "Against the champion" not in said  # there was no gate
    assert said.index("epochs 7 in place") < said.index("batch size 256")


def test_a_retraining_shows_the_checks_and_the_images_that_were_won_and_lost(report: Report, splits: Splits) -> None:
    page = html(replace(report, entry=ENTRY, champion=answers([20, 21, 22])), splits)
    said = text(page)
    assert "recall FAILED recall falls" in said
    assert "Won: only the new version is right 3 images" in said
    assert f"Lost: only the old version is right 20 images; these are the {MAX_TILES}" in said
    assert page.count("<span>old: cat</span>") == MAX_TILES // 2 + 1  # 21 was won
    assert page.count("<li>") == 3 + MAX_TILES


def test_a_decision_from_before_an_interruption_is_reported_without_images(report: Report, splits: Splits) -> None:
    said = text(html(replace(report, entry=ENTRY), splits))
    assert "Version 2 was rejected" in said
    assert "Won:" not in said


def test_early_stopping_is_reported(report: Report, splits: Splits) -> None:
    said = text(html(replace(report, best_epoch=1, stopped="5 epochs without a lower loss"), splits))
    assert "1 of 7 epochs: 5 epochs without a lower loss. The weights are those of epoch 1." in said
