"""The twenty digits of examples/loop.py, drawn on the page."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.train_flow import Trained
from mnist_pipeline.monitoring.log import ServedLog
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
