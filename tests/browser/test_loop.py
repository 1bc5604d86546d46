"""The loop of examples/loop.py, as it is written, and its twenty digits drawn on the page."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.train_flow import Trained
from mnist_pipeline.config import ROOT
from mnist_pipeline.served_log import ServedLog
from tests.browser.conftest import served
from tests.browser.test_pages import draw, page, playwright
from tests.test_examples import example

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["page"]
pytestmark = pytest.mark.browser


def test_the_loops_twenty_digits_are_drawn_and_the_wrong_ones_corrected(
    page: "Page", trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_PIPELINE_HOME", str(tmp_path))
    twenty = example("loop").hand()
    said = []
    with served("serving", "--log") as url:
        page.goto(url)
        for digit, strokes in twenty:
            draw(page, [[(int(280 * x), int(280 * y)) for x, y in stroke] for stroke in strokes])
            playwright.expect(page.locator("#correction")).to_be_visible()
            label = page.locator("#digit").inner_text()
            if label != digit:
                page.get_by_role("button", name=f"That was a{'n' * (digit == '8')} {digit}").click()
                playwright.expect(page.locator("#thanks")).to_contain_text("noted")
                said.append((label, digit))
            page.keyboard.press("Escape")
    with contextlib.closing(ServedLog(tmp_path / "served.db")) as log:
        assert 0 < len(said) < len([*log.since()]) == len(twenty)
        assert [(each.label, each.correct) for each in log.corrections()] == said


def test_in_the_loop_example_the_same_digits_are_read_better_by_what_learnt_the_corrections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"PYTHONPATH": str(ROOT), "MNIST_PIPELINE_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}
    for name, value in (own | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    before, after, verdict = example("loop").main(tmp_path)
    assert after > before
    assert "Promoted: accuracy" in verdict
