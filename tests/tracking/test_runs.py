"""How runs end, are resumed, and what they log."""

import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from mnist_pipeline.config import TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import models, processes, runs
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.store import in_progress_folder
from mnist_pipeline.training.loop import fit
from mnist_pipeline.training.model import MLP

CONFIG = TrainConfig(epochs=4, hidden=(16,), batch_size=512, dropout=0.1)
FINGERPRINT = "a" * 64


def test_the_first_version_is_the_champion_and_every_later_one_the_challenger(
    empty_store: MlflowClient, splits: Splits
) -> None:
    for number in (1, 2, 3):
        with runs.start_run(params={}, tags={}) as run:
            uri = models.log_model(run, MLP(784, [], 10), splits.test.pixels[:2], step=1)
            model = Registry().promote_first(Registry().register(run, uri, description="", tags={}))
        assert (model.number, model.alias) == (number, "champion" if number == 1 else "challenger")
    assert empty_store.get_registered_model("mnist-mlp").aliases == {"champion": 1, "challenger": 3}


def test_all_that_a_run_writes_is_beside_the_database(
    empty_store: MlflowClient, splits: Splits, tmp_path: Path
) -> None:
    with runs.start_run(params={}, tags={}) as run:
        uri = models.log_model(run, MLP(784, [], 10), splits.test.pixels[:2], step=1)
    assert run.artifacts == str(tmp_path / "mlartifacts" / run.id / "artifacts")
    model = empty_store.get_logged_model(uri.removeprefix("models:/"))
    assert model.artifact_location.startswith(str(tmp_path / "mlartifacts"))
    assert (Path(model.artifact_location) / "MLmodel").is_file()


def test_runs_that_log_the_same_data_at_the_same_moment_all_do(empty_store: MlflowClient, splits: Splits) -> None:
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(4) as threads:
        four = [stack.enter_context(runs.start_run(params={}, tags={})) for _ in range(4)]
        for number in range(5):
            examples = replace(splits.test, sha256=f"{number:<064}")
            log = partial(runs.Run.log_dataset, examples=examples, name="mnist-test", context="test", source=Path("a"))
            list(threads.map(log, four))
    for run in four:
        assert (inputs := empty_store.get_run(run.id).inputs)
        assert len(inputs.dataset_inputs) == 5


def test_a_table_that_is_logged_again_replaces_the_first(empty_store: MlflowClient) -> None:
    with runs.start_run(params={}, tags={}) as run:
        run.log_table([{"trial": 0, "lr": 0.1}], "trials")
        run.log_table([{"trial": 0, "lr": 0.1}, {"trial": 1, "layers": 2}], "trials")
    table = empty_store.load_table(run.experiment_id, "trials.json")
    assert table["trial"].tolist() == [0, 1]
    assert table["layers"].tolist()[1] == 2


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_a_run_ends_failed_after_an_error_and_killed_after_a_signal(
    empty_store: MlflowClient, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), runs.start_run(params={}, tags={}) as run:
        raise error
    assert empty_store.get_run(run.id).info.status == status
    folder = in_progress_folder()
    assert processes.is_alive(folder, processes.process_id(folder))  # it may have other runs


def interrupt(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    raise KeyboardInterrupt


def interrupt_in_a_closure(connection: sqlite3.Connection) -> None:
    cursor = connection.execute("SELECT * FROM experiments, runs, alembic_version")  # whose rows are not fetched

    def read() -> None:
        if cursor:
            raise KeyboardInterrupt

    read()


@pytest.mark.parametrize("interrupted", [interrupt, interrupt_in_a_closure])
def test_after_a_signal_in_the_middle_of_a_query_the_database_is_not_locked(
    interrupted: Callable[[sqlite3.Connection], None], empty_store: MlflowClient, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt), runs.start_run(params={}, tags={}) as run:
        interrupted(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None))
    assert empty_store.get_run(run.id).info.status == "KILLED"


def test_a_run_id_of_another_store_opens_a_new_run(empty_store: MlflowClient) -> None:
    with runs.start_run(params={}, tags={}, run_id="0" * 32) as run:
        assert run.id != "0" * 32
    assert empty_store.get_run(run.id).info.status == "FINISHED"


def train(splits: Splits, *, until: int = CONFIG.epochs, fresh: bool = False) -> tuple[runs.Run, MLP]:
    """Train as the flow does, and raise after the epoch `until` unless it is the last."""
    mlp = MLP.from_config(CONFIG, inputs=784, outputs=10)
    with runs.start_run(params={}, tags={}, fingerprint=FINGERPRINT, fresh=fresh) as run:
        for epoch in fit(mlp, splits.test.images, splits.test.labels, CONFIG, checkpoint=run.checkpoint):
            run.log_epoch(epoch)
            if epoch.number == until < CONFIG.epochs:
                raise KeyboardInterrupt
    return run, mlp


def test_an_interrupted_run_is_resumed_as_if_it_had_never_stopped(empty_store: MlflowClient, splits: Splits) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(splits, until=2)
    (interrupted,) = empty_store.search_runs(["1"])
    assert interrupted.info.status == "KILLED"
    run, mlp = train(splits)
    assert run.id == interrupted.info.run_id
    assert empty_store.get_run(run.id).info.status == "FINISHED"
    for metric in ("train_loss", "last_batch_loss"):
        assert [value.step for value in empty_store.get_metric_history(run.id, metric)] == [1, 2, 3, 4]
    whole = MLP.from_config(CONFIG, inputs=784, outputs=10)
    list(fit(whole, splits.test.images, splits.test.labels, CONFIG))
    assert all(map(torch.equal, mlp.state_dict().values(), whole.state_dict().values()))
    assert not list(in_progress_folder().glob("*.checkpoint"))


def test_a_fresh_start_leaves_the_interrupted_run_and_deletes_its_checkpoint(
    empty_store: MlflowClient, splits: Splits
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(splits, until=1)
    run, _ = train(splits, fresh=True)
    statuses = {each.info.run_id: each.info.status for each in empty_store.search_runs(["1"])}
    assert statuses.pop(run.id) == "FINISHED"
    assert [*statuses.values()] == ["KILLED"]
    assert not list(in_progress_folder().glob("*.checkpoint"))


def test_a_training_whose_loss_is_not_finite_is_not_resumed(empty_store: MlflowClient) -> None:
    def diverge() -> None:
        with runs.start_run(params={}, tags={}, fingerprint=FINGERPRINT) as run:
            assert run.checkpoint
            run.checkpoint.write_bytes(b"")
            raise FloatingPointError("the loss became nan in epoch 2")

    with pytest.raises(FloatingPointError):
        diverge()
    assert [run.info.status for run in empty_store.search_runs(["1"])] == ["FAILED"]
    assert not list(in_progress_folder().glob("*.checkpoint"))


def test_a_run_of_another_config_leaves_an_interrupted_one_for_later(empty_store: MlflowClient, splits: Splits) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(splits, until=1)
    with runs.start_run(params={}, tags={}, fingerprint="b" * 64) as other:
        pass
    run, _ = train(splits)
    assert run.id != other.id
    assert len(empty_store.search_runs(["1"])) == 2


def test_a_run_whose_process_is_alive_is_not_taken_over(empty_store: MlflowClient) -> None:
    with runs.start_run(params={}, tags={}, fingerprint=FINGERPRINT) as run:
        assert run.checkpoint
        run.checkpoint.write_bytes(b"")
        with runs.start_run(params={}, tags={}, fingerprint=FINGERPRINT) as other:
            assert other.id != run.id
    assert {each.info.status for each in empty_store.search_runs(["1"])} == {"FINISHED"}


def test_a_checkpoint_that_vanishes_while_they_are_listed_is_left_out(tmp_path: Path) -> None:
    (tmp_path / f"{FINGERPRINT[:16]}-one.checkpoint").symlink_to(tmp_path / "gone")  # is listed, and not there
    (tmp_path / f"{FINGERPRINT[:16]}-two.checkpoint").touch()
    assert processes.interrupted_runs(tmp_path, FINGERPRINT) == ["two"]


def test_a_sweeps_run_that_was_deleted_is_replaced_by_a_new_one(empty_store: MlflowClient) -> None:
    with runs.start_run(params={}, tags={}) as deleted:
        pass
    empty_store.delete_run(deleted.id)
    with runs.start_run(params={}, tags={}, run_id=deleted.id) as run:
        assert run.id != deleted.id


def test_the_runs_of_a_dead_process_are_closed(empty_store: MlflowClient) -> None:
    tags = {"process": "process-1-dead", "prefect.flow_run_id": "x"}
    run = empty_store.create_run("1", tags=tags)
    assert runs.running_processes() == {"x": "process-1-dead"}
    assert runs.close_runs("process-1-dead") == {"x": "KILLED"}
    assert empty_store.get_run(run.info.run_id).info.status == "KILLED"


def test_the_oldest_of_a_thousand_runs_of_a_dead_process_is_closed(empty_store: MlflowClient, tmp_path: Path) -> None:
    tags = {"process": "process-1-dead", "prefect.flow_run_id": "x"}
    oldest = empty_store.create_run("1", start_time=1, tags=tags).info.run_id
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(runs)")]
        for number in range(1000):  # a page of MLflow's
            new = {"run_uuid": "?", "start_time": "2", "status": "'FINISHED'"}
            values = ", ".join(new.get(name, name) for name in columns)
            database.execute(f"INSERT INTO runs SELECT {values} FROM runs WHERE run_uuid = ?", [str(number), oldest])
            copied = "INSERT INTO tags (key, value, run_uuid) SELECT key, value, ? FROM tags WHERE run_uuid = ?"
            database.execute(copied, [str(number), oldest])
    assert runs.close_runs("process-1-dead") == {"x": "KILLED"}
    assert empty_store.get_run(oldest).info.status == "KILLED"
