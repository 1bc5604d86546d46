"""What the server answers to an image, and what it refuses."""

import io
import json
import tracemalloc

import numpy as np
import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from PIL import Image

from flows.train_flow import Trained
from mnist_pipeline.data.schema import Schema
from serving import payload
from serving.app import create_app
from tests.serving.conftest import BASE

FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="three.png"\r\n\r\n\r\n--x--\r\n'


def png(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def test_an_array_of_images_gets_the_probabilities_of_the_evaluation(
    web: TestClient, digits: np.ndarray, trained: Trained
) -> None:
    answer = web.post("/predict?probabilities=true", json=digits.tolist()).json()
    expected = trained.holdout.probabilities[:100].numpy()
    assert np.abs([each["probabilities"] for each in answer["predictions"]] - expected).max() < 1e-5
    assert [int(each["label"]) for each in answer["predictions"]] == expected.argmax(axis=1).tolist()
    assert answer["model_version"] == trained.model.number
    (alone,) = web.post("/predict?probabilities=true", json=digits[0].tolist()).json()["predictions"]
    assert alone["probabilities"] == pytest.approx(answer["predictions"][0]["probabilities"], abs=1e-6)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_may_be_the_body_or_a_file_in_a_form(web: TestClient, digits: np.ndarray, form: str) -> None:
    content, kind = png(255 - digits[0], form), f"image/{form.lower()}"
    raw = web.post("/predict?seen=true", content=content, headers={"content-type": kind})
    form_ = web.post("/predict?seen=true", files={"image": ("seven", content, kind)})
    assert raw.status_code == 200
    assert raw.json() == form_.json()
    (prediction,) = raw.json()["predictions"]
    assert np.shape(prediction["seen"]) == (28, 28)
    if form == "PNG":
        assert prediction["seen"] == digits[0].tolist()
    (unasked,) = web.post("/predict", content=content, headers={"content-type": kind}).json()["predictions"]
    assert unasked == {name: value for name, value in prediction.items() if name != "seen"}


def test_an_answer_is_the_label_the_confidence_and_the_version_unless_more_is_asked_for(
    web: TestClient, digits: np.ndarray
) -> None:
    answer = web.post("/predict", json=digits[0].tolist()).json()
    assert [*answer] == ["model", "model_version", "predictions"]
    assert [*answer["predictions"][0]] == ["label", "confidence"]
    assert [*web.post("/predict?probabilities=true", json=digits[0].tolist()).json()["predictions"][0]] == [
        "label",
        "confidence",
        "probabilities",
    ]


def test_what_is_too_unsure_unclear_or_blank_has_no_label(trained: Trained, digits: np.ndarray) -> None:
    web = TestClient(create_app(trained.model.uri, min_confidence=0.9), base_url=BASE)
    predictions = web.post("/predict?probabilities=true", json=digits.tolist()).json()["predictions"]
    for prediction in predictions:
        assert prediction["confidence"] == max(prediction["probabilities"])
        assert (prediction["label"] is None) == (prediction["confidence"] < 0.9)
    assert {None} < {each["label"] for each in predictions}
    (blank,) = web.post("/predict", json=np.full((28, 28), 9).tolist()).json()["predictions"]
    assert blank["label"] is None
    assert len(blank["probabilities"]) == 10  # without being asked for
    files = {"image": ("it", png(np.zeros((28, 28), np.uint8)), "image/png")}
    (nothing,) = web.post("/predict", files=files).json()["predictions"]
    assert (nothing["label"], nothing["warning"]) == (None, "no ink stands out")


def test_an_unclear_picture_is_answered_with_a_warning(web: TestClient, digits: np.ndarray) -> None:
    for picture, warning in ((np.zeros((28, 28), np.uint8), "no ink stands out"), (digits[0], None)):
        (prediction,) = web.post("/predict", files={"image": ("it", png(picture), "image/png")}).json()["predictions"]
        assert prediction["warning"] == warning


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("nonsense", 400, "not JSON"),
        ("[[NaN]]", 400, "not JSON"),
        ("[[Infinity]]", 400, "not JSON"),
        ("[" * 10_000, 400, "not JSON"),
        ("[" + "[]," * 100_000 + "[]]", 413, "more rows"),
        ('"words"', 422, "not a string"),
        ('{"inputs": []}', 422, "not an object"),
        ("[]", 422, "empty"),
        ("[[]]", 422, "image 0 is not 28 rows of 28 pixels"),
        ("[[1, 2], [3]]", 422, "image 0 is not"),
        (json.dumps([[[0] * 28] * 28, [[0] * 28] * 27 + [[0] * 27]]), 422, "image 1 is not"),
        (json.dumps([[[0] * 28] * 28, "words"]), 422, "image 1 is not"),
        (json.dumps([[0] * 28] * 27 + ["0" * 28]), 422, "image 0 is not"),
        (json.dumps([[0] * 28] * 27 + [{str(key): 0 for key in range(28)}]), 422, "image 0 is not"),
        (json.dumps([[[[0] * 28]] * 28] * 28), 422, "image 0 is not"),
        (json.dumps(np.full((28, 28), 0.5).tolist()), 422, "whole numbers from 0 to 255, not 0.5"),
        (json.dumps(np.full((28, 28), True).tolist()), 422, "whole numbers"),
        (json.dumps(np.full((28, 28), "7").tolist()), 422, "whole numbers"),
        (json.dumps([[None] * 28] * 28), 422, "whole numbers"),
        (json.dumps([[10**400] * 28] * 28), 422, "whole numbers"),
        (json.dumps([[256] * 28] * 28), 422, "0 to 255, not 256"),
        (json.dumps([[-1] * 28] * 28), 422, "0 to 255"),
        (json.dumps([[[0] * 28] * 28] * 1001), 413, "at most 1,000 images"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_array_is_refused_with_a_reason(web: TestClient, body: str, status: int, detail: str) -> None:
    answer = web.post("/predict", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, [*answer.json()]) == (status, ["detail"])
    assert detail in answer.json()["detail"]


def test_an_array_costs_no_more_memory_than_its_text_suggests() -> None:
    body = json.dumps(["a" * 1_000_000] + [0] * 400).encode()  # each element as wide as the widest: 2.5 GB
    tracemalloc.start()
    with pytest.raises(HTTPException):
        payload.from_json(body, Schema())
    assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "image/png", 422),
        (b"no image", "image/png", 422),
        (png(np.eye(28, dtype=np.uint8) * 255)[:48], "image/png", 422),
        (b"x", "text/plain", 415),
        (b"x", "", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=y", 400),
        (FORM, "multipart/form-data; boundary=x; charset=undefined", 400),  # a codec that decodes nothing
        (FORM.replace(b"name", b"size"), "multipart/form-data; boundary=x", 400),
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
