"""A retraining judged, promoted or kept back, alone, and talked about."""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from flows import command_line
from flows.retrain_flow import Retrained, retrain_flow, train_and_judge
from flows.train_flow import Trained
from mnist_pipeline import unfinished
from mnist_pipeline.config import DataSource, Fast, Gate, TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.registry import Registry
from mnist_pipeline.store import unfinished_folder
from mnist_pipeline.tracking import start_run

REGISTRY = Registry("mnist-mlp")


@pytest.fixture(scope="module")
def promoted(trained: Trained, source: DataSource) -> State[Any]:
    """The fast recipe, judged against what one epoch of the reference recipe made."""
    return retrain_flow(Fast(), source, return_state=True)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a server on this machine is told."""
    heard: list[dict[str, Any]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MNIST_PIPELINE_NOTIFY_URL", f"http://127.0.0.1:{server.server_port}/hook")
        yield heard
        server.shutdown()


def flow_run_of(state: State[Any]) -> str:
    return str(state.state_details.flow_run_id)


def test_a_better_version_becomes_champion_and_the_ledger_says_why(promoted: State[Any], trained: Trained) -> None:
    retrained: Retrained = promoted.result()
    model = retrained.trained.model
    assert (promoted.name, model.alias) == ("Promoted", "champion")
    assert REGISTRY.version("challenger") != model.number
    (entry,) = (entry for entry in REGISTRY.history() if entry.version == model.number)
    assert (entry.action, entry.champion) == ("promoted", model.number)
    assert entry.champion_before == REGISTRY.version("previous_champion") is not None
    assert [check.name for check in entry.checks if check.passed] == [
        "floor",
        "significance",
        "margin",
        "recall",
        "calibration",
        "reload",
    ]


def test_the_run_and_the_version_carry_the_decision(promoted: State[Any]) -> None:
    retrained: Retrained = promoted.result()
    run = MlflowClient().get_run(retrained.trained.run.id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["decision"] == "promoted"
    assert run.data.metrics["promoted"] == 1
    assert run.data.metrics["gate/p_value"] == retrained.entry.numbers["p_value"]
    version = MlflowClient().get_model_version("mnist-mlp", str(retrained.entry.version))
    assert version.tags["decision"] == "promoted"
    assert "**Promoted**" in str(version.description)


def test_the_decision_is_on_the_flow_runs_page(promoted: State[Any]) -> None:
    with get_client(sync_client=True) as prefect:
        artifacts = prefect.read_artifacts(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[promoted.state_details.flow_run_id]))  # type: ignore[list-item]
        )
    (decision,) = (artifact.data for artifact in artifacts if artifact.key == "promotion-decision")
    assert isinstance(decision, str)
    assert "was **promoted**" in decision
    assert "McNemar" in decision


def test_a_version_that_learnt_shuffled_labels_is_kept_back(promoted: State[Any], splits: Splits) -> None:
    champion = REGISTRY.champion
    shuffled = splits.train.labels[torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(0))]
    config = TrainConfig(epochs=1, batch_size=512)
    nonsense = replace(splits, train=replace(splits.train, labels=shuffled))

    @flow(validate_parameters=False)
    def learn_nonsense() -> Retrained:
        with start_run(params={}, tags={}) as run:
            return train_and_judge(config, nonsense, REGISTRY, Gate(), run)

    retrained = learn_nonsense()
    trained, entry = retrained.trained, retrained.entry
    failed = [check.name for check in entry.checks if not check.passed]
    assert {"floor", "significance", "margin", "recall"} <= set(failed)
    assert "reload" not in failed
    assert "at least 97.00% is asked for" in entry.reasons[0]
    assert (entry.action, REGISTRY.champion) == ("kept", champion)
    assert REGISTRY.version("challenger") == trained.model.number


def test_a_rejection_is_told_with_links_to_both_runs(
    promoted: State[Any], source: DataSource, webhook: list[dict[str, Any]]
) -> None:
    state: State[Any] = retrain_flow(TrainConfig(epochs=1, hidden=()), source, return_state=True)
    retrained: Retrained = state.result()
    assert (state.name, state.is_completed()) == ("Kept", True)
    (word,) = webhook
    assert word["event"] == "rejected"
    assert "at least 97.00% is asked for" in word["message"]
    assert word["prefect_url"].endswith(f"/runs/flow-run/{flow_run_of(state)}")
    assert word["mlflow_url"] == retrained.trained.run.url


def test_so_is_a_failure(prefect_api: str, source: DataSource, webhook: list[dict[str, Any]]) -> None:
    state = retrain_flow(TrainConfig(epochs=1, lr=1e30, optimizer="sgd"), source, return_state=True)
    assert state.is_failed()
    (word,) = webhook
    assert word["event"] == "failed"
    assert "lower --lr" in word["message"]


def test_a_dead_webhook_changes_nothing(prefect_api: str, source: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_PIPELINE_NOTIFY_URL", "http://127.0.0.1:9/hook")
    with pytest.raises(FloatingPointError):
        retrain_flow(TrainConfig(epochs=1, lr=1e30, optimizer="sgd", seed=1), source)


def test_what_would_give_the_champion_again_can_be_skipped(promoted: State[Any], source: DataSource) -> None:
    runs = len(MlflowClient().search_runs(["1"]))
    state = retrain_flow(Fast(), source, skip_unchanged=True, return_state=True)
    assert (state.name, state.is_completed()) == ("Skipped", True)
    assert state.message == f"Config, data and code made version {REGISTRY.champion} already"
    assert len(MlflowClient().search_runs(["1"])) == runs


def test_a_second_retraining_is_cancelled_while_one_is_going_on(prefect_api: str, source: DataSource) -> None:
    with unfinished.alone(unfinished_folder(), at="retraining"):
        state = retrain_flow(Fast(), source, return_state=True)
    assert state.is_cancelled()
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(state.state_details.flow_run_id)  # type: ignore[arg-type]
    assert flow_run.state
    assert (flow_run.state_name, flow_run.state.message) == ("Cancelled", "Another retraining is going on")


def test_nothing_is_left_unfinished(promoted: State[Any]) -> None:
    (own_lock,) = unfinished_folder().glob("process-*.lock")
    assert own_lock.stem == unfinished.this_process(unfinished_folder())
    assert str(os.getpid()) in own_lock.stem


def test_the_ledger_is_printed_and_the_champion_moved_by_command(
    promoted: State[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    champion, previous = REGISTRY.champion, REGISTRY.version("previous_champion")
    assert champion
    command_line.rollback(reason="it fails on sevens")
    assert REGISTRY.champion == previous
    command_line.promote(champion, reason="it does not")
    assert (REGISTRY.champion, REGISTRY.version("previous_champion")) == (champion, previous)
    command_line.history()
    said = capsys.readouterr().out
    assert f"The champion is version {previous} again, in place of version {champion}" in said
    scored = [f"{entry.numbers['accuracy']:.2%}" for entry in REGISTRY.history() if entry.numbers]
    assert scored
    for word in ("promoted by hand", "rolled back", "it fails on sevens", "it does not", *scored):
        assert word in said
