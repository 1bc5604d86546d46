"""The API and its page: what it answers, what it refuses, and how it follows the champion."""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from PIL import Image

from flows.train_flow import Trained
from mnist_pipeline.config import ROOT
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking.registry import Registry
from serving import payload
from serving.app import HEADERS, create_app

BASE = "http://127.0.0.1:8000"


def png(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def web(trained: Trained) -> Iterator[TestClient]:
    with TestClient(create_app(trained.model.uri), base_url=BASE) as client:
        yield client


@pytest.fixture(scope="module")
def digits(splits: Splits) -> np.ndarray:
    return splits.holdout.pixels[:100].numpy()


def test_an_array_of_images_gets_the_probabilities_of_the_evaluation(
    web: TestClient, digits: np.ndarray, trained: Trained
) -> None:
    answer = web.post("/predict", json=digits.tolist()).json()
    expected = trained.holdout.probabilities[:100].numpy()
    assert np.abs([each["probabilities"] for each in answer["predictions"]] - expected).max() < 1e-5
    assert [int(each["label"]) for each in answer["predictions"]] == expected.argmax(axis=1).tolist()
    assert answer["model_version"] == trained.model.number
    (alone,) = web.post("/predict", json=digits[0].tolist()).json()["predictions"]
    assert alone["probabilities"] == pytest.approx(answer["predictions"][0]["probabilities"], abs=1e-6)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_may_be_the_body_or_a_file_in_a_form(web: TestClient, digits: np.ndarray, form: str) -> None:
    content, kind = png(255 - digits[0], form), f"image/{form.lower()}"
    raw = web.post("/predict", content=content, headers={"content-type": kind})
    form_ = web.post("/predict", files={"image": ("seven", content, kind)})
    assert raw.status_code == 200
    assert raw.json() == form_.json()
    (prediction,) = raw.json()["predictions"]
    assert np.shape(prediction["seen"]) == (28, 28)
    if form == "PNG":
        assert prediction["seen"] == digits[0].tolist()


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("nonsense", 400, "not JSON"),
        ("[[NaN]]", 400, "NaN"),
        ("[[Infinity]]", 400, "Infinity"),
        ("[" * 100_000, 400, "not JSON"),
        ('"words"', 422, "not a string"),
        ('{"inputs": []}', 422, "not an object"),
        ("[]", 422, "empty"),
        ("[[]]", 422, "empty"),
        ("[[1, 2], [3]]", 422, "ragged"),
        ("[[1, 2], [3, 4]]", 422, "not (2, 2)"),
        (json.dumps(np.full((28, 28), 0.5).tolist()), 422, "whole numbers from 0 to 255, not float64"),
        (json.dumps(np.full((28, 28), True).tolist()), 422, "whole numbers"),
        (json.dumps(np.full((28, 28), "7").tolist()), 422, "whole numbers"),
        (json.dumps([[None] * 28] * 28), 422, "whole numbers"),
        (json.dumps([[10**400] * 28] * 28), 422, "whole numbers"),
        (json.dumps([[256] * 28] * 28), 422, "0 to 255, not in 256 to 256"),
        (json.dumps([[-1] * 28] * 28), 422, "0 to 255"),
        (json.dumps([[[0] * 28] * 28] * 1001), 413, "at most 1,000 images"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_array_is_refused_with_a_reason(web: TestClient, body: str, status: int, detail: str) -> None:
    answer = web.post("/predict", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, [*answer.json()]) == (status, ["detail"])
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "image/png", 422),
        (b"no image", "image/png", 422),
        (png(np.zeros((28, 28), np.uint8)), "image/png", 422),
        (png(np.eye(28, dtype=np.uint8) * 255)[:48], "image/png", 422),
        (b"x", "text/plain", 415),
        (b"x", "", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=y", 400),
        (bytes(payload.MAX_BODY + 1), "image/png", 413),
    ],
)
def test_a_bad_picture_is_refused_with_a_reason(web: TestClient, content: bytes, kind: str, status: int) -> None:
    answer = web.post("/predict", content=content, headers={"content-type": kind})
    assert (answer.status_code, [*answer.json()]) == (status, ["detail"])


def test_a_body_of_unknown_length_is_refused_once_it_is_too_long(web: TestClient) -> None:
    parts = (bytes(2**20) for _ in range(1000))
    answer = web.post("/predict", content=parts, headers={"content-type": "image/png"})
    assert answer.status_code == 413


def test_a_decompression_bomb_is_refused(web: TestClient) -> None:
    bomb = png(np.zeros((8000, 8000), np.uint8))
    assert len(bomb) < 100_000
    answer = web.post("/predict", content=bomb, headers={"content-type": "image/png"})
    assert answer.status_code == 413
    assert "8,000×8,000" in answer.json()["detail"]


def test_requests_under_another_hosts_name_are_refused(web: TestClient) -> None:
    for host, status in {
        "localhost:8000": 200,
        "127.0.0.1": 200,
        "evil.example": 400,
        "127.0.0.1.evil.example": 400,
    }.items():
        assert web.get("/health", headers={"host": host}).status_code == status


def test_an_internal_error_is_a_500_that_gives_nothing_away(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(content: bytes, schema: Schema) -> np.ndarray:
        raise RuntimeError("a secret")

    monkeypatch.setattr(payload, "from_picture", breaks)
    web = TestClient(create_app(trained.model.uri), base_url=BASE, raise_server_exceptions=False)
    answer = web.post("/predict", content=b"", headers={"content-type": "image/png"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["detail"]
    assert "content-security-policy" in answer.headers


def test_the_page_serves_its_own_parts_and_nothing_from_elsewhere(web: TestClient) -> None:
    page = web.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text
    for part in ("page.css", "page.js"):
        assert part in page.text
        assert web.get(f"/{part}").status_code == 200
    assert web.head("/").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("HEAD", "/health", 405),
        ("POST", "/", 405),
        ("GET", "/nothing", 404),
        ("GET", "/..%2fapp.py", 404),
        ("GET", "/%2e%2e/app.py", 404),
        ("GET", "/%00", 404),
        ("GET", "/" + "a" * 5000, 404),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_wrong_method_or_path_is_refused_with_the_security_headers(
    web: TestClient, method: str, path: str, status: int
) -> None:
    answer = web.request(method, path)
    assert answer.status_code == status
    assert answer.headers.items() >= {name.lower(): value for name, value in HEADERS.items()}.items()


def test_model_returns_the_card_of_the_version_that_answers(web: TestClient, trained: Trained) -> None:
    registry = Registry(trained.model.name)
    if registry.champion != trained.model.number:
        registry.promote_by_hand(trained.model.number, reason="to see when")
    card = web.get("/model").json()
    assert (card["name"], card["version"]) == ("mnist-mlp", trained.model.number)
    assert card["holdout_accuracy"] == pytest.approx(trained.holdout.accuracy, abs=1e-4)
    assert "champion" in card["aliases"]
    assert card["promoted"].startswith("20")


def test_the_alias_is_followed_and_no_request_is_lost(trained: Trained, digits: np.ndarray) -> None:
    registry, mlflow = Registry("followed"), MlflowClient()
    source = mlflow.get_model_version("mnist-mlp", str(trained.model.number))
    mlflow.create_registered_model(registry.name)
    for _ in range(2):
        mlflow.create_model_version(registry.name, str(source.source), model_id=source.model_id)
    broken = mlflow.create_model_version(registry.name, "/nowhere")
    mlflow.set_registered_model_alias(registry.name, "champion", "1")
    answers: list[tuple[int, Any]] = []
    moved = threading.Event()

    with TestClient(create_app("models:/followed@champion", poll_interval=0.1), base_url=BASE) as web:

        def ask() -> None:
            while not moved.is_set():
                answer = web.post("/predict", json=digits[0].tolist())
                answers.append((answer.status_code, answer.json()["model_version"]))

        thread = threading.Thread(target=ask)
        thread.start()
        mlflow.set_registered_model_alias(registry.name, "champion", "2")
        for _ in range(100):
            if web.get("/health").json()["model_version"] == 2:
                break
            time.sleep(0.1)
        time.sleep(0.2)
        moved.set()
        thread.join()
        assert {status for status, _ in answers} == {200}
        versions = [version for _, version in answers]
        assert versions == sorted(versions)
        assert set(versions) == {1, 2}

        mlflow.set_registered_model_alias(registry.name, "champion", broken.version)
        for _ in range(100):
            health = web.get("/health").json()
            if health["last_error"]:
                break
            time.sleep(0.1)
        assert "cannot be loaded" in health["last_error"]
        assert web.post("/predict", json=digits[0].tolist()).json()["model_version"] == 2


def test_the_server_does_not_start_without_a_champion(trained: Trained) -> None:
    with pytest.raises(ValueError, match="train one first"):
        create_app("models:/nobody@champion")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "99999"], 'Invalid value "99999" for --port. Must be <= 65535.'),
        (["--prot", "8000"], "Unknown option: --prot. Did you mean --port?"),
        pytest.param(["--model", "mnist"], "a model is given as models:/", marks=pytest.mark.slow),  # imports torch
    ],
)
def test_a_bad_option_of_the_server_is_reported_in_one_line(trained: Trained, options: list[str], message: str) -> None:
    command = [sys.executable, "-m", "serving", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"serving: {message}")
    assert done.stderr.count("\n") == 1
