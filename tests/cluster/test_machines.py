"""Two machines that work, one to command them and one that is lost: docs/scale.md, by its own commands."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import optuna
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient

from mnist_pipeline.config import ROOT
from mnist_pipeline.tracking.registry import Registry
from tasks.champion_lock import LEASE
from tests.cluster.conftest import PATIENCE, Machine
from tests.cluster.handbook import block
from tests.servers import eventually

boto3 = pytest.importorskip("boto3")
pytestmark = pytest.mark.cluster

REGISTRY = Registry("mnist-mlp")
PYTHON, RETRAIN = ".venv/bin/python", "flows/retrain_flow.py"
TINY = ["--units", "8", "16", "--layers", "1", "--batch-size", "512", "--epochs", "1", "--floor", "0.5"]


def command(*words: str) -> list[str]:
    """Return the command of docs/scale.md that has these words."""
    (found,) = (each for name in ("once", "use") for each in block(name)[1] if set(words) <= set(each))
    return found


@pytest.fixture(scope="module", autouse=True)
def store(addresses: dict[str, str]) -> Iterator[MlflowClient]:
    """The tracking server, which this process asks as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", addresses["MLFLOW_TRACKING_URI"])
        yield MlflowClient(addresses["MLFLOW_TRACKING_URI"])


@pytest.fixture(scope="module")
def prefect(addresses: dict[str, str]) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(addresses["PREFECT_API_URL"]) as client:
        yield client


@pytest.fixture(scope="module")
def yours(addresses: dict[str, str], machine: Callable[[str], Machine]) -> Machine:
    """The machine that you command from."""
    yours = machine("yours")
    for words in block("once")[1]:
        yours.run(words)
    return yours


@pytest.fixture(scope="module")
def workers(yours: Machine, machine: Callable[[str], Machine]) -> list[Machine]:
    """The two that work."""
    workers = [machine("one"), machine("two")]
    for worker in workers:
        for name in ("worker", "trials"):
            worker.start(block(name)[1][0])
    return workers


@pytest.fixture(scope="module")
def lost(workers: list[Machine], machine: Callable[[str], Machine], store: MlflowClient) -> str:
    """A machine that is lost in the middle of a retraining; returns its MLflow run."""
    lost = machine("losses")
    lost.start([PYTHON, RETRAIN, "--epochs", "10000", "--hidden"])
    eventually(lambda: "Epoch: 1/" in lost.said, within=PATIENCE, every=0.2)
    lost.cut_off()
    shutil.rmtree(lost.root)
    (run,) = store.search_runs(["1"])
    return str(run.info.run_id)


HOLDER = """
import sys
from mnist_pipeline.tracking.registry import Registry
from tasks.champion_lock import champion_lock

with champion_lock(Registry(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold_lock(model: str, addresses: dict[str, str]) -> "subprocess.Popen[str]":
    """Start a process that holds the lock of a model's champion until its input ends, and wait until it has it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, model],
        cwd=ROOT,
        env=os.environ | addresses,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture(scope="module")
def dead_holder(addresses: dict[str, str]) -> float:
    """A process that was killed while it held the lock of a champion; returns when."""
    process = hold_lock("held-mlp", addresses)
    process.kill()
    process.wait()
    return time.monotonic()


@pytest.fixture(scope="module")
def swept(yours: Machine, lost: str, workers: list[Machine], dead_holder: float) -> str:
    """A sweep, driven from one machine with trials on the others; returns what was printed."""
    words = ["4" if word == "40" else word for word in command(".venv/bin/python", "--trials")]
    return yours.run([*words, *TINY, "--study", "digits"])


@pytest.fixture(scope="module")
def two_at_once(
    swept: str, yours: Machine, workers: list[Machine], store: MlflowClient, addresses: dict[str, str]
) -> list[Any]:
    """Two retrainings that reach the gate at the same time; returns their MLflow runs."""
    before = {run.info.run_id for run in store.search_runs(["1"])}
    champion, decisions = REGISTRY.champion, len(REGISTRY.history())
    holder = hold_lock(REGISTRY.name, addresses)
    for seed in (1, 2):
        words = command(".venv/bin/prefect", "run")
        yours.run([*words[:-1], words[-1].replace("}", f', "seed": {seed}}}')])
    eventually(
        lambda: sum(worker.said.count("'reload' - Finished") for worker in workers) == 2, within=PATIENCE, every=0.2
    )
    time.sleep(3)  # long enough to decide, if nothing kept them from it
    assert (REGISTRY.champion, len(REGISTRY.history())) == (champion, decisions)
    holder.communicate()
    eventually(lambda: len(REGISTRY.history()) == decisions + 2, within=PATIENCE, every=0.2)
    runs = [run.info.run_id for run in store.search_runs(["1"]) if run.info.run_id not in before]
    eventually(lambda: all(store.get_run(run).info.end_time for run in runs), within=PATIENCE, every=0.2)
    return [store.get_run(run) for run in runs]


def test_a_sweep_runs_on_the_machines_of_the_cluster(swept: str, store: MlflowClient, workers: list[Machine]) -> None:
    (sweep,) = store.search_runs(["1"], "tags.study = 'digits'")
    trials = store.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'")
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1", "2", "3"]
    assert {run.info.status for run in [sweep, *trials]} == {"FINISHED"}
    assert all((worker.project / "MNIST_data").is_dir() for worker in workers)  # which read the data themselves
    assert "Best trial " in swept


def test_a_study_is_resumed_from_another_machine(
    swept: str, machine: Callable[[str], Machine], store: MlflowClient
) -> None:
    words = ["5" if word == "40" else word for word in command(".venv/bin/python", "--trials")]
    machine("another").run([*words, *TINY, "--study", "digits", "--resume"])
    (sweep,) = store.search_runs(["1"], "tags.study = 'digits'")
    trials = store.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'")
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1", "2", "3", "4"]


def test_two_retrainings_at_once_decide_one_after_the_other(two_at_once: list[Any]) -> None:
    assert {run.info.status for run in two_at_once} == {"FINISHED"}
    history = REGISTRY.history()
    champion = None
    for entry in history:
        assert entry.champion_before == champion  # what it was compared with was the champion
        champion = entry.champion
    assert champion == REGISTRY.champion
    assert sorted(entry.version for entry in history) == REGISTRY.versions
    reloads = [check for entry in history[-2:] for check in entry.checks if check.name == "reload"]
    assert [check.passed for check in reloads] == [True, True]  # loaded by a stranger, through the tracking server


def test_each_was_at_work_on_a_machine_of_its_own(two_at_once: list[Any], workers: list[Machine]) -> None:
    for worker in workers:
        assert worker.said.count("Beginning flow run") == worker.said.count("for flow 'retrain'") == 1


def test_the_champion_is_moved_and_moved_back_from_any_machine(two_at_once: list[Any], yours: Machine) -> None:
    champion = REGISTRY.champion
    assert champion != 1  # it learnt from a tenth of an epoch
    yours.run(command("promote"))
    assert (REGISTRY.champion, REGISTRY.version("previous_champion")) == (1, champion)
    yours.run(command("rollback"))
    assert REGISTRY.champion == champion
    said = yours.run(command("history"))
    assert [entry.action for entry in REGISTRY.history()][-2:] == ["promoted by hand", "rolled back"]
    assert "better on sevens" in said


def test_the_runs_of_a_lost_machine_are_closed(
    lost: str, two_at_once: list[Any], yours: Machine, store: MlflowClient, prefect: SyncPrefectClient
) -> None:
    run = store.get_run(lost)
    flow_run = UUID(run.data.tags["prefect.flow_run_id"])
    eventually(lambda: prefect.read_flow_run(flow_run).state_name == "Crashed", within=PATIENCE, every=0.2)
    if run.info.status == "RUNNING":  # nothing has been trained since
        yours.run([PYTHON, RETRAIN, "--epochs", "1", "--hidden"])
    assert store.get_run(lost).info.status == "KILLED"


def test_nothing_was_kept_where_it_was_made(
    two_at_once: list[Any], yours: Machine, workers: list[Machine], addresses: dict[str, str], ports: dict[str, int]
) -> None:
    for each in [yours, *workers]:
        kept = {path.name for path in each.project.iterdir()}
        assert not kept & {"mlflow.db", "mlartifacts", "mlruns", "optuna.db"}
    exports, _ = block("bucket")
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports['s3']}",
        region_name=exports["AWS_DEFAULT_REGION"],
        aws_access_key_id=exports["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=exports["AWS_SECRET_ACCESS_KEY"],
    )
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert sum(key.endswith("extra_files/state_dict.pt") for key in keys) == len(REGISTRY.versions)
    assert [study.study_name for study in optuna.get_all_study_summaries(addresses["OPTUNA_STORAGE"])] == ["digits"]


def test_the_lock_of_a_machine_that_died_is_free_after_its_lease(
    dead_holder: float, two_at_once: list[Any], addresses: dict[str, str]
) -> None:
    holder = hold_lock("held-mlp", addresses)
    assert time.monotonic() - dead_holder > LEASE
    holder.communicate()
