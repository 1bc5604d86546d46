"""The page in a real browser, and a run in MLflow's UI and in Prefect's."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import torch

from flows.train_flow import Trained
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.monitoring.log import ServedLog
from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.models import log_model
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.runs import start_run
from mnist_pipeline.tracking.store import client
from mnist_pipeline.training.model import MLP
from tests.browser.conftest import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=20_000)  # the MLflow UI takes its time on a busy machine
pytestmark = pytest.mark.browser

SEVEN = [[(80, 70), (200, 70), (130, 220)]]
THREE = [[(90, 75), (130, 55), (175, 70), (180, 100), (135, 130), (185, 160), (180, 200), (130, 225), (85, 205)]]


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.route(lambda url: not re.match("http://(127.0.0.1|localhost):|data:", url), lambda route: route.abort())
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    yield opened
    context.close()


@pytest.fixture
def pets_url(trained: Trained) -> Iterator[str]:
    """A model, untrained, of other classes than digits, on images of another size."""
    schema = Schema(("cat", "dog", "something else altogether"), 12, 8, "resized")
    with start_run(params={}, tags={}) as run:
        uri = log_model(run, MLP(96, [], 3), torch.zeros(2, 12, 8, dtype=torch.uint8), step=1, schema=schema)
        model = Registry("pets-mlp").register(run, uri, description="", tags={})
    with served("serving", "--model", model.uri) as url:
        yield url


def draw(page: "Page", strokes: list[list[tuple[int, int]]]) -> None:
    """Draw with the mouse, in the board's own 280 × 280."""
    box = page.locator("#board").bounding_box()
    assert box
    scale = box["width"] / 280
    for points in strokes:
        x, y = points[0]
        page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)
        page.mouse.down()
        for here, (x, y) in pairwise(points):
            steps = max(1, round(math.dist(here, (x, y)) / 15))  # each takes the browser a while
            page.mouse.move(box["x"] + x * scale, box["y"] + y * scale, steps=steps)
        page.mouse.up()


def test_the_page_shows_the_classes_and_the_image_size_of_the_model(page: "Page", pets_url: str) -> None:
    page.goto(pets_url)
    playwright.expect(page.locator("h1")).to_have_text("Draw one of these")
    playwright.expect(page.locator("#bars .label")).to_have_text(["cat", "dog", "something else altogether"])
    draw(page, SEVEN)
    playwright.expect(page.locator("#digit")).to_have_text(re.compile("cat|dog|something"))
    playwright.expect(page.locator("figcaption")).to_have_text("seen, 8 × 12")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1100


@pytest.mark.parametrize(("strokes", "digit"), [(THREE, "3"), (SEVEN, "7")])
def test_a_drawn_digit_is_recognised(
    page: "Page", serving_url: str, strokes: list[list[tuple[int, int]]], digit: str
) -> None:
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(serving_url)
    draw(page, strokes)
    playwright.expect(page.locator("#digit")).to_have_text(digit)
    playwright.expect(page.locator("#bars .best")).to_contain_text(digit)
    playwright.expect(page.locator("#message")).to_contain_text(f"a {digit}.")
    playwright.expect(page.locator("#model")).to_contain_text("mnist-mlp, version")
    assert page.evaluate(
        "document.querySelector('#seen').getContext('2d').getImageData(0, 0, 28, 28).data.some(Boolean)"
    )
    assert not errors


def test_a_digit_can_be_drawn_with_the_keyboard_and_cleared(page: "Page", serving_url: str) -> None:
    page.goto(serving_url)
    page.locator("#board").focus()
    for key, times in (("Space", 1), ("ArrowDown", 22)):
        for _ in range(times):
            page.keyboard.press(key)
    playwright.expect(page.locator("#digit")).to_have_text("1")
    page.keyboard.press("c")
    playwright.expect(page.locator("#digit")).to_have_text("–")


def test_the_page_fits_a_phone_without_scrolling_sideways(page: "Page", serving_url: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(serving_url)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    draw(page, SEVEN)
    playwright.expect(page.locator("#digit")).to_have_text("7")


def test_a_drawing_is_kept_once_it_is_finished_and_corrected_by_mouse_or_keyboard(
    page: "Page", trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_PIPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("MNIST_PIPELINE_TOKEN", "0123456789abcdef")
    with served("serving", "--log", "--min-confidence", "0.5") as url:
        page.goto(url)
        page.get_by_label("This server needs a token").fill("0123456789abcdef")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#kept")).to_be_visible()
        draw(page, [[(80, 60), (80, 220)], [(200, 60), (200, 220)]])
        playwright.expect(page.locator("#message")).to_contain_text("Not sure: perhaps")
        page.get_by_role("button", name="That was a 7").click()
        playwright.expect(page.locator("#thanks")).to_contain_text("noted as a 7")
        page.get_by_role("button", name="That was an 8").focus()
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#thanks")).to_contain_text("noted as an 8")
        page.keyboard.press("Escape")
        playwright.expect(page.locator("#correction")).to_be_hidden()
    (drawing,) = ServedLog(tmp_path / "served.db").since()
    assert (drawing.source, drawing.correct, drawing.unsure) == ("page", "8", True)


def test_the_run_is_found_in_the_mlflow_ui(page: "Page", mlflow_url: str, trained: Trained) -> None:
    run = f"{mlflow_url}/#/experiments/{trained.run.experiment_id}/runs/{trained.run.id}"
    page.goto(trained.run.comparison_url.replace(store.LOCAL_UI, mlflow_url))
    playwright.expect(page.get_by_text("holdout_accuracy").first).to_be_visible()  # a column of the table
    page.goto(run)
    playwright.expect(page.get_by_text("calibration error").first).to_be_visible()  # the description
    page.goto(f"{run}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("train_loss")
    playwright.expect(page.get_by_text("train_loss", exact=True).first).to_be_visible()
    playwright.expect(page.locator("svg.main-svg").first).to_be_visible()  # the loss curve
    page.goto(f"{run}/artifacts")
    page.get_by_text("figures", exact=True).first.click()
    page.get_by_text("predictions.png").first.click()
    figure = page.locator("img[src^='blob:']").first
    playwright.expect(figure).to_be_visible()
    assert figure.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1500


def test_the_report_is_shown_by_the_mlflow_ui(page: "Page", mlflow_url: str, trained: Trained) -> None:
    page.goto(f"{mlflow_url}/#/experiments/{trained.run.experiment_id}/runs/{trained.run.id}/artifacts")
    page.get_by_text("report.html").first.click()
    report = page.frame_locator("iframe")
    playwright.expect(report.locator("h1")).to_have_text(f"mnist-mlp, version {trained.model.number}")
    assert report.locator("figure img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 600


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_fits_a_phone_without_scrolling_sideways(
    page: "Page", trained: Trained, scheme: Literal["light", "dark"]
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    page.set_content((Path(trained.run.artifacts) / "report.html").read_text())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_flow_run_is_found_in_prefects_ui(page: "Page", prefect_url: str, trained: Trained, name: str) -> None:
    flow_run = client().get_run(trained.run.id).data.tags["prefect.flow_run_id"]
    page.set_viewport_size({"width": 1100, "height": 1400})  # lists are drawn as far as they are seen
    page.goto(f"{prefect_url.replace('127.0.0.1', name)}/runs/flow-run/{flow_run}")
    playwright.expect(page.get_by_text("epochs 1, reference").first).to_be_visible()
    playwright.expect(page.get_by_text("Epoch: 1/1, Loss: ")).to_be_visible()  # among its logs
    page.get_by_text("Task Runs", exact=True).click()
    for task in ("download", "split", "train", "evaluate", "visualize", "register", "report"):
        playwright.expect(page.get_by_role("link", name=task, exact=True).first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).click()
    playwright.expect(page.get_by_text("Epoch: 1/1, Loss: ").filter(visible=True).first).to_be_visible()  # the progress
    page.get_by_text("training-results").click()
    playwright.expect(page.get_by_role("cell", name=str(trained.test))).to_be_visible()
    assert page.get_by_role("link", name="The run in MLflow").get_attribute("href") == trained.run.url
