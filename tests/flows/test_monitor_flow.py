"""The loop closed: what was served is watched, corrected, reviewed, and comes back as training data."""

import contextlib
import csv
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from pydantic_core import to_jsonable_python

from flows import cli, feedback, monitor_flow
from flows.train_flow import Trained
from mnist_pipeline.config import FAST, FieldError
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.monitoring import review
from mnist_pipeline.monitoring.log import ServedLog
from mnist_pipeline.monitoring.options import Watch
from mnist_pipeline.monitoring.verdict import Watched
from mnist_pipeline.tracking import sqlite, versions
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.sqlite import StoreError
from tasks.monitor import read_logs
from tasks.notify import NOTIFY_URL
from tests.answers import answer
from tests.servers import webhook
from tests.serving.test_log import served

REGISTRY = Registry("mnist-mlp")


@pytest.fixture(scope="module")
def log(trained: Trained, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the champion answered: 80 of the holdout's images upside down, of which 30 were corrected."""
    file = tmp_path_factory.mktemp("served") / "served.db"
    champion = REGISTRY.champion
    assert champion
    kept, images = ServedLog(file), splits.test.pixels[:80].flip(1).numpy()
    rows = trained.test.probabilities[:80].numpy()
    pairs = enumerate(zip(images, rows, strict=True))
    kept.append([answer(number, image, row, version=champion) for number, (image, row) in pairs])
    for number, label in enumerate(splits.test.labels[:30].tolist()):
        kept.correct(f"{number:032x}", str(label))
    kept.close()
    return file


def test_corrections_are_reviewed_by_a_table_and_taken_back_by_their_ids(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feedback.review(log=(str(log),), out=tmp_path)
    assert "30 corrections to be reviewed" in capsys.readouterr().out
    table = tmp_path / review.TABLE
    rows = [*csv.DictReader(table.read_text().splitlines())]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"review": "accept" if number < 25 else "reject"} for number, row in enumerate(rows))
    feedback.review(log=(str(log),), out=tmp_path, apply=table)
    assert "30 corrections reviewed, of 30 decisions" in capsys.readouterr().out
    with pytest.raises(ValueError, match="the log has no correction of 1 id"):
        feedback.review(log=(str(log),), out=tmp_path, withdraw=(f"{0:032x}", "unknown"))
    assert "1 correction taken back, of 2 ids" in capsys.readouterr().out


def test_accepted_corrections_that_contradict_each_other_are_reviewed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(ServedLog(tmp_path / "served.db")) as kept:
        kept.append([served(1, pixel=7), served(2, pixel=7), served(3, pixel=8)])
        for number in (1, 2, 3):
            kept.correct(served(number).id, str(number))
        kept.review({served(number).id: ("accepted", str(number)) for number in (1, 2, 3)})
    feedback.review(log=(str(kept.file),), out=tmp_path)
    assert "2 corrections to be reviewed" in capsys.readouterr().out
    table = tmp_path / review.TABLE
    table.write_text(table.read_text().replace("accepted", "reject", 1))
    feedback.review(log=(str(kept.file),), out=tmp_path, apply=table)
    assert "0 corrections to be reviewed" in capsys.readouterr().out


def test_a_table_that_someone_may_be_filling_in_is_kept_and_one_that_was_applied_makes_room(tmp_path: Path) -> None:
    file, out = tmp_path / "served.db", tmp_path / "review"
    with contextlib.closing(ServedLog(file)) as log:
        log.append([served(number) for number in range(2)])
        log.correct(served(0).id, "7")
        feedback.review(log=(str(file),), out=out)
        with pytest.raises(FieldError, match=r"filling in: python .* review --log .* --apply .*corrections\.csv"):
            feedback.review(log=(str(file),), out=out)
        log.review({served(0).id: ("accepted", "7")})
        log.correct(served(1).id, "7")
        feedback.review(log=(str(file),), out=out)
    assert [*review.read(out / review.TABLE)] == [served(1).id]


def test_decisions_on_another_log_are_not_overwritten(tmp_path: Path) -> None:
    out, table = tmp_path / "review", tmp_path / "review" / review.TABLE
    for name, number in (("a", 0), ("b", 1)):
        with contextlib.closing(ServedLog(tmp_path / name)) as log:
            log.append([served(number)])
            log.correct(served(number).id, "7")
    feedback.review(log=(str(tmp_path / "a"),), out=out)
    table.write_text(filled_in := table.read_text().rstrip() + "accept\n")
    with pytest.raises(FieldError, match="out has 1 decision that the log does not have, in"):
        feedback.review(log=(str(tmp_path / "b"),), out=out)
    assert table.read_text() == filled_in
    with pytest.raises(ValueError, match="1 decision not carried out"):
        feedback.review(log=(str(tmp_path / "b"),), apply=table)
    with pytest.raises(FieldError, match="out has 1 decision that the log does not have"):
        feedback.review(log=(str(tmp_path / "b"),), out=out)
    feedback.review(log=(str(tmp_path / "a"),), apply=table)
    feedback.review(log=(str(tmp_path / "b"),), out=out)
    assert [*review.read(table)] == [served(1).id]


def test_a_log_and_its_copy_are_not_reviewed_together(tmp_path: Path) -> None:
    with contextlib.closing(ServedLog(tmp_path / "a")) as log:
        log.append([served(0)])
        log.correct(served(0).id, "7")
    shutil.copy(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match="hold the same answers: name each server once"):
        feedback.review(log=(str(tmp_path / "a"), str(tmp_path / "b")), out=tmp_path / "review")


def test_a_flow_that_begins_while_the_database_is_locked_says_so(
    prefect_api: str, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.1)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as another:
        another.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=r"mlflow\.db is locked: another program is using it"):
            monitor_flow.monitor_flow()


def test_what_a_deleted_version_answered_is_not_that_of_a_new_one_with_its_number(log: Path, tmp_path: Path) -> None:
    champion = REGISTRY.champion or 0
    made = versions.state(REGISTRY, champion).created
    opened = contextlib.closing(ServedLog(log)), contextlib.closing(ServedLog(tmp_path / "served.db"))
    with opened[0] as kept, opened[1] as mixed:
        images = list(kept.since(model=REGISTRY.name))[:2]
        before, after = (timedelta(seconds=seconds) for seconds in (-1, 1))
        mixed.append([replace(each, time=made + at) for each, at in zip(images, (before, after), strict=True)])
    answers, _ = read_logs.fn(Watch(log=(str(tmp_path / "served.db"),)), REGISTRY.name, champion)
    assert [each.id for each in answers] == [images[1].id]


@pytest.fixture(scope="module")
def messages() -> Iterator[list[dict[str, object]]]:
    with webhook() as (url, received), pytest.MonkeyPatch.context() as patch:
        patch.setenv(NOTIFY_URL, url)
        yield received


@pytest.fixture(scope="module")
def watched(log: Path, source: DataSource, messages: list[dict[str, object]]) -> Watched:
    state: State[Any] = monitor_flow.monitor_flow(Watch(log=(str(log),)), source=source, return_state=True)
    result: Watched = state.result()
    assert state.name == "Completed"
    assert state.message == result.message
    return result


def test_the_verdict_is_a_run_an_artifact_and_a_message(watched: Watched, messages: list[dict[str, object]]) -> None:
    assert watched.verdict == "retrain"
    assert "24 reviewed corrections that it has not learnt from" in watched.message
    (message,) = messages
    assert (message["event"], message["message"]) == ("retrain", watched.message)
    run = MlflowClient().get_run(str(message["mlflow_run"]))
    assert MlflowClient().get_experiment(run.info.experiment_id).name == "mnist-monitoring"
    assert run.data.tags["verdict"] == "retrain"
    assert run.data.metrics["new_corrections"] == 24
    paths = {each.path for each in MlflowClient().list_artifacts(run.info.run_id)}
    assert paths >= {"monitoring.json", "figures"}
    with get_client(sync_client=True) as prefect:
        keys = {str(each.flow_run_id): each.key for each in prefect.read_artifacts() if each.key == "monitoring"}
    assert run.data.tags["prefect.flow_run_id"] in keys


@pytest.mark.slow
def test_a_retraining_learns_from_the_reviewed_corrections_and_they_count_once(
    watched: Watched, log: Path, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review.write_extra, "__kwdefaults__", {"home": tmp_path})
    state = monitor_flow.monitor_flow(Watch(log=(str(log),), retrain=True), FAST, source, return_state=True)
    assert "Promoted: accuracy" in (state.message or "")
    entry = REGISTRY.history()[-1]
    assert "24 of them from corrections-" in entry.data
    run = MlflowClient().get_run(REGISTRY.run_of(REGISTRY.champion) or "")
    assert {each.path for each in MlflowClient().list_artifacts(run.info.run_id)} >= {review.TABLE, review.SHEET}
    assert run.data.params["extra_size"] == "24"
    again = monitor_flow.monitor_flow(Watch(log=(str(log),), retrain=True), FAST, source, return_state=True)
    assert (again.message or "").startswith("Look: version")  # the new version has answered nothing
    assert REGISTRY.history()[-1] == entry
    REGISTRY.roll_back(reason="a test")  # to the one whose answers drifted
    third: State[Any] = monitor_flow.monitor_flow(Watch(log=(str(log),), retrain=True), FAST, source, return_state=True)
    assert f"those of version {entry.version}, which was rolled back; 24 of corrections-" in (third.message or "")
    assert third.result().metrics["new_corrections"] == 0


def test_a_log_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "served.db").touch()
    (tmp_path / "alias.db").symlink_to("served.db")
    logs = (str(tmp_path / "served.db"), str(tmp_path / "alias.db"))
    with pytest.raises(FieldError, match="log must be one file, or different ones"):
        Watch(log=logs)
    with pytest.raises(FieldError, match="log must be one file, or different ones"):
        feedback.review(log=logs)
    with pytest.raises(FieldError, match="log must be one file, or different ones"):
        Watch(log=("http://127.0.0.1:8000", "http://127.0.0.1:8000/"))


def test_a_log_and_a_copy_of_it_are_refused_as_each_answer_would_count_twice(log: Path, tmp_path: Path) -> None:
    copy = shutil.copy(log, tmp_path / "copy.db")
    with pytest.raises(ValueError, match=r"served.db and .*copy.db hold the same answers: name each server once"):
        read_logs.fn(Watch(log=(str(log), str(copy))), REGISTRY.name, REGISTRY.champion or 0)


@pytest.mark.parametrize("address", ["http://ada:secret@127.0.0.1:9", "http://ada@[::1]:9", "http://[::1"])
def test_an_address_that_cannot_be_used_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(FieldError, match=r"user or password|is no address") as refusal:
        Watch(log=(address,))
    assert "secret" not in str(refusal.value)


def test_a_log_that_is_not_there_or_is_none_is_one_line(source: DataSource, trained: Trained, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE theirs (x)")
    for file, problem in ((tmp_path / "none.db", "there is no log"), (other, "is no log of served predictions")):
        state = monitor_flow.monitor_flow(Watch(log=(str(file),)), source=source, return_state=True)
        with pytest.raises(ValueError, match=problem):
            state.result()
    assert not (tmp_path / "none.db").exists()


def test_a_schedule_carries_what_is_watched(log: Path) -> None:
    options = cli.parse(feedback.monitor, ["--log", str(log), "--since", "12h", "--retrain", "--recipe", "fast"])
    given = {name: options[name] for name in ("watch", "config", "source", "gate")}
    read = monitor_flow.monitor_flow.validate_parameters(json.loads(json.dumps(to_jsonable_python(given))))
    assert read == given


def test_other_extra_data_are_refused_beside_the_corrections(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extra must be left out"):
        cli.parse(feedback.monitor, ["--retrain", "--extra", str(tmp_path)])
