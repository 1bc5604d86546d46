"""How the server follows the champion, and waits for one."""

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from flows.train_flow import Trained
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking.registry import Registry
from serving.app import create_app
from serving.champion import Champion
from tests.servers import eventually
from tests.serving.conftest import BASE


def test_model_returns_the_card_of_the_version_that_answers(web: TestClient, trained: Trained) -> None:
    registry = Registry(trained.model.name)
    if registry.champion != trained.model.number:
        registry.promote_by_hand(trained.model.number, reason="to see when")
    eventually(lambda: "champion" in web.get("/model").json()["aliases"])
    card = web.get("/model").json()
    assert (card["name"], card["version"]) == ("mnist-mlp", trained.model.number)
    assert card["holdout_accuracy"] == pytest.approx(trained.holdout.accuracy, abs=1e-4)
    assert "champion" in card["aliases"]
    assert card["promoted"].startswith("20")


def test_what_is_known_of_the_model_waits_for_no_database(web: TestClient, home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = time.monotonic()
        assert [web.get("/model").status_code for _ in range(50)] == [200] * 50
        assert time.monotonic() - before < 10  # MLflow would wait for 20 s, each time


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


def test_a_version_that_took_the_number_of_a_deleted_one_is_served_in_its_place(
    trained: Trained, splits: Splits, digits: np.ndarray
) -> None:
    client = MlflowClient()
    source = client.get_model_version("mnist-mlp", str(trained.model.number))

    def register(source: str, model_id: str | None) -> None:
        client.create_registered_model("reborn")
        client.create_model_version("reborn", source, model_id=model_id)
        client.set_registered_model_alias("reborn", "champion", "1")

    register(str(source.source), source.model_id)
    champion = Champion("models:/reborn@champion")
    first = champion.loaded
    assert first
    champion.poll()
    settled = champion.loaded
    assert settled
    assert settled.network is first.network
    champion.poll()
    assert champion.loaded is settled  # what has not moved is not read again
    client.delete_registered_model("reborn")
    champion.poll()
    assert champion.loaded is settled  # it goes on answering
    assert (champion.loaded.card["version"], str(champion.last_error)[:24]) == (1, "there is no model reborn")
    register(str(source.source), source.model_id)
    champion.poll()
    assert champion.loaded.network is not first.network
    assert champion.last_error is None


def test_a_champion_is_waited_for_and_taken_up(
    trained: Trained, digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = MlflowClient()
    source = mlflow.get_model_version("mnist-mlp", str(trained.model.number))
    with TestClient(create_app("models:/awaited@champion", poll_interval=0.1), base_url=BASE) as web:
        assert (web.get("/health").status_code, web.get("/ready").status_code) == (200, 503)
        assert "Waiting for a model: there is no model awaited in" in capsys.readouterr().err
        for answer in (web.post("/predict", json=digits[0].tolist()), web.get("/model")):
            assert answer.status_code == 503
            assert "there is no model awaited in" in answer.json()["detail"]
        mlflow.create_registered_model("awaited")
        mlflow.create_model_version("awaited", str(source.source), model_id=source.model_id)
        mlflow.set_registered_model_alias("awaited", "champion", "1")
        for _ in range(100):
            if web.get("/ready").status_code == 200:
                break
            time.sleep(0.1)
        assert web.post("/predict", json=digits[0].tolist()).json()["model_version"] == 1


def test_a_version_that_does_not_exist_is_not_waited_for(trained: Trained) -> None:
    with pytest.raises(ValueError, match="has no version 999"):
        create_app("models:/mnist-mlp/999")
    for uri in ("mnist", "models:/mnist-mlp@two words"):
        with pytest.raises(ValueError, match="a model is given as models:/"):
            create_app(uri)
