"""The page in a real browser, and a run in MLflow's UI and in Prefect's."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import torch

from flows.train_flow import Trained
from mnist_pipeline.config import ROOT
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.tracking.models import log_model
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.runs import start_run
from mnist_pipeline.tracking.store import client
from mnist_pipeline.training.model import MLP
from tests.servers import answers, eventually, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=20_000)  # the MLflow UI takes its time on a busy machine
pytestmark = pytest.mark.browser

SEVEN = [[(80, 70), (200, 70), (130, 220)]]
THREE = [[(90, 75), (130, 55), (175, 70), (180, 100), (135, 130), (185, 160), (180, 200), (130, 225), (85, 205)]]


def started(command: list[str], health: str, **env: str) -> "subprocess.Popen[bytes]":
    server = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"DO_NOT_TRACK": "true"} | env)
    try:
        eventually(lambda: answers(health) or server.poll() is not None, within=120)
        assert server.poll() is None
    except AssertionError:
        server.kill()
        raise
    return server


@contextlib.contextmanager
def served(*options: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "serving", "--port", str(port), *options]
    server = started(command, f"http://127.0.0.1:{port}/health")
    yield f"http://127.0.0.1:{port}/"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def page_url(trained: Trained) -> Iterator[str]:
    with served() as url:
        yield url


@pytest.fixture(scope="module")
def mlflow_url(trained: Trained) -> Iterator[str]:
    port = free_port()
    store = ["--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"]]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port), *store]
    server = started(command, f"http://127.0.0.1:{port}/health", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def prefect_url(trained: Trained) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    server = started(command, f"{url}/api/health", PREFECT_UI_API_URL=f"{url}/api")
    yield url
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium: make test-browser installs it"
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.route(lambda url: "//127.0.0.1:" not in url and not url.startswith("data:"), lambda route: route.abort())
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
    with served("--model", model.uri) as url:
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
        for _, (x, y) in pairwise(points):
            page.mouse.move(box["x"] + x * scale, box["y"] + y * scale, steps=8)
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
    page: "Page", page_url: str, strokes: list[list[tuple[int, int]]], digit: str
) -> None:
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(page_url)
    draw(page, strokes)
    playwright.expect(page.locator("#digit")).to_have_text(digit)
    playwright.expect(page.locator("#bars .best")).to_contain_text(digit)
    playwright.expect(page.locator("#message")).to_contain_text(f"a {digit}.")
    playwright.expect(page.locator("#model")).to_contain_text("mnist-mlp, version")
    assert page.evaluate(
        "document.querySelector('#seen').getContext('2d').getImageData(0, 0, 28, 28).data.some(Boolean)"
    )
    assert not errors


def test_a_digit_can_be_drawn_with_the_keyboard_and_cleared(page: "Page", page_url: str) -> None:
    page.goto(page_url)
    page.locator("#board").focus()
    for key, times in (("Space", 1), ("ArrowDown", 22)):
        for _ in range(times):
            page.keyboard.press(key)
    playwright.expect(page.locator("#digit")).to_have_text("1")
    page.keyboard.press("c")
    playwright.expect(page.locator("#digit")).to_have_text("–")


def test_the_page_fits_a_phone_without_scrolling_sideways(page: "Page", page_url: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(page_url)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    draw(page, SEVEN)
    playwright.expect(page.locator("#digit")).to_have_text("7")


def test_the_run_is_found_in_the_mlflow_ui(page: "Page", mlflow_url: str, trained: Trained) -> None:
    run = f"{mlflow_url}/#/experiments/{trained.run.experiment_id}/runs/{trained.run.id}"
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


def test_the_flow_run_is_found_in_prefects_ui(page: "Page", prefect_url: str, trained: Trained) -> None:
    flow_run = client().get_run(trained.run.id).data.tags["prefect.flow_run_id"]
    page.set_viewport_size({"width": 1100, "height": 1400})  # lists are drawn as far as they are seen
    page.goto(f"{prefect_url}/runs/flow-run/{flow_run}")
    playwright.expect(page.get_by_text("reference, 100-100, 1 epoch, seed 0").first).to_be_visible()
    playwright.expect(page.get_by_text("Epoch: 1/1, Loss: ")).to_be_visible()  # among its logs
    page.get_by_text("Task Runs", exact=True).click()
    for task in ("download", "split", "train", "evaluate", "visualize", "register"):
        playwright.expect(page.get_by_role("link", name=task, exact=True).first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).click()
    playwright.expect(page.get_by_text("Epoch 1 of 1, loss ")).to_be_visible()  # the progress of training
    page.get_by_text("training-results").click()
    playwright.expect(page.get_by_role("cell", name=str(trained.test))).to_be_visible()
    assert page.get_by_role("link", name="The run in MLflow").get_attribute("href") == trained.run.url
