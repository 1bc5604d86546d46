"""What is served is kept, within bounds, and can be corrected, reviewed and taken back."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from flows import feedback
from flows.train_flow import Trained
from mnist_pipeline.contact_sheet import GAP, LINE
from mnist_pipeline.monitoring import review
from mnist_pipeline.monitoring.log import NotALogError, ServedLog
from mnist_pipeline.monitoring.served import Review, Served, contradicting, once_an_image
from serving.app import create_app
from serving.log import LogWriter
from tests.answers import answer
from tests.servers import eventually
from tests.serving.conftest import BASE


def served(number: int = 0, *, pixel: int | None = None) -> Served:
    pixels = np.full((28, 28), number % 256 if pixel is None else pixel, np.uint8)
    probabilities = np.full(10, 0.01, np.float32)
    probabilities[number % 10] = 0.91
    return answer(number, pixels, probabilities, source="array")


@pytest.fixture
def log(tmp_path: Path) -> ServedLog:
    return ServedLog(tmp_path / "served.db", keep=100)


@pytest.fixture
def web(trained: Trained, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(trained.model.uri, log=LogWriter(tmp_path / "served.db"))
    with TestClient(app, base_url=BASE) as client:
        yield client


def test_each_answer_is_kept_as_it_was_given(web: TestClient, digits: np.ndarray, tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    answer = web.post("/predict?probabilities=true", json=digits[:3].tolist()).json()
    web.post("/predict?log=false", json=digits[:3].tolist())
    log = ServedLog(tmp_path / "served.db")
    eventually(lambda: len([*log.since(before)]) == 3)
    for kept, given, pixels in zip(log.since(before), answer["predictions"], digits, strict=False):
        assert (kept.id, kept.label, kept.version) == (given["id"], given["label"], answer["model_version"])
        assert kept.probabilities.tolist() == pytest.approx(given["probabilities"])
        assert (kept.pixels == pixels).all()
        assert kept.source == "array"
    assert not [*log.since(datetime.now(UTC) + timedelta(days=1))]
    assert not [*log.since(model="another")]


def test_an_answer_is_corrected_by_its_id(web: TestClient, digits: np.ndarray, tmp_path: Path) -> None:
    (prediction,) = web.post("/predict", json=digits[0].tolist()).json()["predictions"]
    answer = web.post("/feedback", json={"id": prediction["id"], "label": "3"})  # which may wait to be kept itself
    assert (answer.status_code, answer.json()) == (200, {"id": prediction["id"], "label": "3"})
    (correction,) = ServedLog(tmp_path / "served.db").corrections()
    assert (correction.id, correction.correct, correction.review) == (prediction["id"], "3", "")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"id": "ID", "label": "ten"}', 422),
        (b'{"id": "ID", "label": 3}', 422),
        (b'{"id": "ID"}', 422),
        (b'["ID", "3"]', 422),
        (b'{"id": "0", "label": "3"}', 404),
        (b'{"id": "\\ud800", "label": "3"}', 400),
        (b'{"id": "ID", "label": "\\ud800"}', 400),
        (b"{", 400),
        (b'{"id": "' + bytes(2000) + b'"}', 413),
    ],
)
def test_bad_feedback_is_refused_and_changes_nothing(
    web: TestClient, digits: np.ndarray, tmp_path: Path, body: bytes, status: int
) -> None:
    (prediction,) = web.post("/predict", json=digits[0].tolist()).json()["predictions"]
    content = body.replace(b"ID", prediction["id"].encode())
    answer = web.post("/feedback", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, [*answer.json()]) == (status, ["detail"])
    assert not ServedLog(tmp_path / "served.db").corrections()


def test_feedback_from_a_page_of_another_site_or_as_text_is_refused(web: TestClient) -> None:
    assert web.post("/feedback", json={}, headers={"origin": "https://evil.example"}).status_code == 403
    assert web.post("/feedback", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415


def test_a_server_without_a_log_gives_no_ids_and_takes_no_feedback(trained: Trained, digits: np.ndarray) -> None:
    web = TestClient(create_app(trained.model.uri), base_url=BASE)
    assert "id" not in web.post("/predict", json=digits[0].tolist()).json()["predictions"][0]
    assert web.post("/feedback", json={"id": "0", "label": "3"}).status_code == 404
    assert not web.get("/model").json()["log"]


def numbers(log: ServedLog) -> list[int]:
    return [int(each.id, 16) for each in log.since()]


def numbers_in(file: Path) -> list[int]:
    with contextlib.closing(ServedLog(file)) as log:
        return numbers(log)


def test_the_oldest_make_room_and_those_with_an_accepted_correction_are_the_last(log: ServedLog) -> None:
    log.append([served(number) for number in range(100)])
    for number in (3, 4):
        log.correct(served(number).id, "9")
    log.review({served(4).id: ("accepted", "9")})
    log.append([served(number) for number in range(100, 150)])
    assert numbers(log) == [4, *range(51, 150)]


def test_what_is_kept_already_is_not_kept_twice(log: ServedLog) -> None:
    log.append([served(0)])
    log.append([served(0), served(1)])  # as after a commit that was made, but ended in an error
    assert numbers(log) == [0, 1]


@pytest.mark.parametrize("review", ["", "rejected", "accepted"])
def test_however_many_corrections_there_are_new_answers_find_room(log: ServedLog, review: Review) -> None:
    log.append([served(number) for number in range(100)])
    for number in range(100):
        log.correct(served(number).id, "9")
    log.review({served(number).id: (review, "9") for number in range(100)})
    log.append([served(number) for number in range(100, 140)])
    assert numbers(log) == [*range(40, 140)]


def test_corrections_are_reviewed_and_taken_back(log: ServedLog) -> None:
    log.append([served(number) for number in range(4)])
    for number in range(3):
        log.correct(served(number).id, "9")
    decisions: dict[str, tuple[Review, str]] = {served(0).id: ("accepted", "9"), served(1).id: ("rejected", "9")}
    assert log.review(decisions | {served(2).id: ("accepted", "8"), served(3).id: ("accepted", "9")}) == 2
    assert [each.id for each in log.corrections("accepted")] == [served(0).id]
    with pytest.raises(ValueError, match="reviewed already"):
        log.correct(served(0).id, "8")
    assert log.withdraw([served(0).id, served(3).id]) == 1
    assert [each.id for each in log.corrections()] == [served(1).id, served(2).id]
    log.correct(served(0).id, "8")
    assert log.review({served(0).id: ("accepted", "08")}) == 1  # as a spreadsheet may write it
    assert log.review({served(3).id: ("accepted", "")}) == 0


def test_a_review_of_one_class_accepts_no_correction_to_another_that_is_spelled_alike(log: ServedLog) -> None:
    log.append([replace(served(0), classes=("A", "a", *"23456789"))])
    log.correct(served(0).id, "a")
    assert log.review({served(0).id: ("accepted", "A")}) == 0
    assert log.review({served(0).id: ("accepted", "a")}) == 1


def test_the_corrections_of_two_models_answers_do_not_contradict_each_other() -> None:
    one, other = replace(served(0), correct="7"), replace(served(1), correct="9", pixels=served(0).pixels)
    assert contradicting([one, other]) == [one, other]
    assert contradicting([one, replace(other, model="other-mlp")]) == []


def test_a_correction_counts_once_an_image(log: ServedLog) -> None:
    log.append([served(1, pixel=7), served(2, pixel=7), served(3, pixel=8)])
    for number, label in ((1, "4"), (2, "5"), (3, "6")):
        log.correct(served(number).id, label)
    assert [each.correct for each in once_an_image(log.corrections())] == ["5", "6"]


def test_a_review_is_a_contact_sheet_and_a_table_that_is_read_back(log: ServedLog, tmp_path: Path) -> None:
    log.append([served(number) for number in range(12)])
    for number in range(12):
        log.correct(served(number).id, "9")
    sheet, table = review.write(tmp_path / "review", log.corrections())
    with Image.open(sheet) as image:
        assert image.width == 10 * (review.PANEL + GAP) + GAP  # twelve, in two rows
        assert image.height == 2 * (review.PANEL + 2 * LINE + GAP) + GAP
    filled = table.read_text().replace(",\n", ",accept\n", 1)
    table.write_text(filled)
    decisions = review.read(table)
    assert [*decisions.values()] == [("accepted", "9")] + [("", "9")] * 11
    log.review(decisions)
    assert len(log.corrections("accepted")) == 1
    table.write_text(filled.replace("accept", "perhaps"))
    with pytest.raises(ValueError, match="accept, reject or nothing, not perhaps"):
        review.read(table)
    table.write_text("\ufeffid;correct;review\n1;9;ACCEPT\n;;\n;;\n")  # as a spreadsheet may save it
    assert review.read(table) == {"1": ("accepted", "9")}
    twice = "id,correct,review\n1,2,\n1,2,"
    for text, problem in (("", "no column id"), ("id,review\n", "no column correct"), (twice, "row above")):
        table.write_text(text)
        with pytest.raises(ValueError, match=problem):
            review.read(table)


def test_a_table_that_nobody_has_filled_in_is_refused(log: ServedLog, tmp_path: Path) -> None:
    log.append([served(0)])
    log.correct(served(0).id, "7")
    _, table = review.write(tmp_path, log.corrections())
    with pytest.raises(ValueError, match="apply must be a table whose column review says accept or reject"):
        feedback.review(log=(str(log.file),), apply=table)


def test_what_was_corrected_anew_since_the_review_is_not_accepted(log: ServedLog, tmp_path: Path) -> None:
    log.append([served(0)])
    log.correct(served(0).id, "7")
    _, table = review.write(tmp_path, log.corrections())
    log.correct(served(0).id, "9")
    table.write_text(table.read_text().replace(",\n", ",accept\n"))
    with pytest.raises(ValueError, match="1 decision not carried out, as the log has no such corrections, or of other"):
        feedback.review(log=(str(log.file),), apply=table)
    assert [each.review for each in log.corrections()] == [""]


def test_a_log_that_was_moved_since_it_was_opened_is_not_read_on(log: ServedLog, tmp_path: Path) -> None:
    log.append([served(0)])
    log.file.rename(tmp_path / "old.db")
    with contextlib.closing(ServedLog(log.file)) as new:
        new.append([served(1)])
        for use in (log.corrections, lambda: [*log.since()], lambda: log.withdraw([served(0).id])):
            with pytest.raises(OSError, match="was moved or deleted since it was opened: open it anew"):
                use()


@pytest.mark.parametrize(("keep", "accepted"), [(500, 250), (300, 150), (100, 50), (1, 0)])
def test_when_much_less_is_to_be_kept_half_of_it_is_the_latest_accepted_corrections(
    keep: int, accepted: int, log: ServedLog
) -> None:
    log.keep = 10_000
    log.append([served(number) for number in range(3000)])
    for number in range(700):
        log.correct(served(number).id, "9")
    log.review({served(number).id: ("accepted", "9") for number in range(700)})
    log.keep = keep
    log.trim()
    assert numbers(log) == [*range(700 - accepted, 700), *range(3000 - keep + accepted, 3000)]


def test_a_damaged_log_is_moved_aside_and_another_programs_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "served.db"
    log = ServedLog(file)
    log.append([served(number) for number in range(1000)])
    log.close()
    content = bytearray(file.read_bytes())
    content[8192 : 8192 + 40_000] = os.urandom(40_000)
    file.write_bytes(content)
    with pytest.raises(NotALogError, match="damaged"):
        ServedLog(file)
    with pytest.raises(sqlite3.OperationalError, match="another program may be writing it"):
        ServedLog(file, replace_damaged=True)
    os.utime(file, (0, 0))
    log = ServedLog(file, replace_damaged=True)
    assert log.moved
    assert log.moved.read_bytes() == content
    assert not [*log.since()]
    for name, other in {"text": b"not a database" * 1000, "head": b"\x00" + bytes(content[1:])}.items():
        (tmp_path / name).write_bytes(other)
        with pytest.raises(NotALogError, match="is no log of served predictions"):
            ServedLog(tmp_path / name, replace_damaged=True)
        assert (tmp_path / name).read_bytes() == other
    with sqlite3.connect(tmp_path / "another.db") as another:
        another.execute("CREATE TABLE runs (id)")
    with pytest.raises(NotALogError, match="another program's"):
        ServedLog(tmp_path / "another.db")


def test_the_metrics_count_requests_predictions_and_the_log(web: TestClient, digits: np.ndarray) -> None:
    web.post("/predict", json=digits.tolist())
    web.get("/nothing")
    web.post("/predict", content=b"", headers={"content-type": "text/plain"})
    lines = web.get("/metrics").text.splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert samples['mnist_pipeline_requests_total{route="/predict",status="200"}'] == "1.0"
    assert samples['mnist_pipeline_requests_total{route="/predict",status="415"}'] == "1.0"
    assert samples['mnist_pipeline_requests_total{route="other",status="404"}'] == "1.0"
    by_class = [float(count) for name, count in samples.items() if name.startswith("mnist_pipeline_predictions_total")]
    assert sum(by_class) == 100
    assert {"mnist_pipeline_log_backlog", "mnist_pipeline_log_dropped_total"} < samples.keys()
