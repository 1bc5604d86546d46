"""The exported page in a real browser, on a server of static files alone, with the network cut off."""

import functools
import io
import json
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from flows.train_flow import Trained
from mnist_pipeline.config import CODE, ROOT
from mnist_pipeline.data.pictures import preprocessing
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import models
from mnist_pipeline.tracking.export import export
from mnist_pipeline.tracking.registry import Registry
from tests.browser.test_pages import SEVEN, THREE, draw
from tests.servers import listening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

COUNT = 84  # drawings, and as many photographs: two of each kind
READ = """async ([url, card]) => {
    const { read } = await import("/preprocessing.js");
    const image = await createImageBitmap(await (await fetch(url)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const picture = context.getImageData(0, 0, image.width, image.height);
    const { pixels, warning } = read(picture, card);
    return [[...pixels], warning];
}"""


@pytest.fixture(scope="module")
def folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "digits"
    pages = [CODE / "serving" / name for name in ("page", "static_page")]
    export(Registry(trained.model.name), trained.model.number, folder, dataset="mnist", pages=pages)
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with listening(functools.partial(Quiet, directory=str(folder))) as address:  # type: ignore[arg-type]
        yield address


@pytest.fixture
def page(browser: "Browser", url: str) -> Iterator["Page"]:
    """The page; whatever it would ask of another server fails, and once it is loaded the network is gone."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.goto(url)
    playwright.expect(opened.locator("#model")).to_contain_text("mnist-mlp, version", timeout=60_000)
    context.set_offline(True)
    yield opened
    assert all(each.startswith((url, "data:")) for each in asked)
    context.close()


@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.parametrize(("strokes", "digit"), [(THREE, "3"), (SEVEN, "7")])
def test_a_drawn_digit_is_recognised_without_a_server_on_desktop_and_phone(
    page: "Page", width: int, strokes: list[list[tuple[int, int]]], digit: str
) -> None:
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.set_viewport_size({"width": width, "height": 800})
    draw(page, strokes)
    playwright.expect(page.locator("#digit")).to_have_text(digit, timeout=60_000)
    playwright.expect(page.locator("#bars .best")).to_contain_text(digit)
    playwright.expect(page.locator("figcaption")).to_have_text("seen, 28 × 28")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not errors


def pictures(splits: Splits, count: int) -> Iterator[bytes]:
    """Yield drawings, then photographs, as PNG: a browser decodes a JPEG with other roundings."""
    sys.path.append(str(ROOT / "benchmarks"))
    from kinds import KINDS, UNCLEAR
    from scene import Scene

    rng, digits = np.random.default_rng(0), splits.holdout.pixels.numpy()
    kinds = KINDS["tune"] + KINDS["report"] + UNCLEAR["tune"] + UNCLEAR["report"]
    for number in range(count):
        board, size = Image.new("L", (280, 280)), int(rng.integers(90, 270))
        digit = Image.fromarray(digits[number]).resize((size, size), Image.Resampling.BICUBIC)
        left, top = rng.integers(0, 281 - size, 2).tolist()
        board.paste(digit, (left, top))
        yield png(board)
    for number in range(count):
        scene = Scene(rng)
        kinds[number % len(kinds)](scene, digits[count + number])
        photograph = Image.open(io.BytesIO(scene.photograph()))
        photograph.thumbnail((500, 500))
        yield png(photograph)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def test_drawings_and_photographs_become_the_servers_pixels_and_labels(
    browser: "Browser", url: str, folder: Path, splits: Splits, trained: Trained
) -> None:
    card = json.loads((folder / "card.json").read_text())
    card["image_size"] = [card["height"], card["width"]]
    network = models.load_network(trained.model.uri)
    page = browser.new_page()
    page.goto(url)
    different = []
    for number, content in enumerate(pictures(splits, COUNT)):
        (folder / "picture.png").write_bytes(content)
        pixels, warning = page.evaluate(READ, [f"{url}/picture.png?{number}", card])
        reading = preprocessing.read(content)
        ours = np.array(pixels, np.uint8).reshape(1, 28, 28)
        labels = [int(network(torch.from_numpy(each)).argmax()) for each in (ours, reading.pixels)]
        gap = np.abs(ours.astype(int) - reading.pixels).max()
        if gap > 1 or labels[0] != labels[1] or warning != reading.warning:
            different.append((number, int(gap), labels, warning, reading.warning))
    page.close()
    assert not different
