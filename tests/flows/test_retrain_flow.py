"""A retraining: trained, decided on, promoted or rejected."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State

from flows.retrain_flow import Retrained, retrain_flow
from flows.train_flow import Trained
from mnist_pipeline.config import FAST, TrainConfig
from mnist_pipeline.data.mnist import BUNDLED
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.tracking import processes
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.store import in_progress_folder
from tasks.notify import NOTIFY_URL
from tests.servers import webhook

REGISTRY = Registry("mnist-mlp")


@pytest.fixture(scope="module")
def promoted(trained: Trained, source: DataSource) -> State[Any]:
    """The fast recipe, compared with what one epoch of the reference recipe made."""
    return retrain_flow(FAST, source, return_state=True)


@dataclass(frozen=True)
class Rejection:
    """A flow run whose version was rejected, and what a webhook received of it."""

    state: State[Any]
    received: list[dict[str, Any]]
    config: TrainConfig
    source: DataSource

    @property
    def retrained(self) -> Retrained:
        result: Retrained = self.state.result()
        return result


@pytest.fixture(scope="module")
def rejection(promoted: State[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rejection]:
    """What learnt MNIST with its training labels shuffled."""
    folder = tmp_path_factory.mktemp("shuffled")
    for file in BUNDLED.glob("*.gz"):
        (folder / file.name).symlink_to(file)
    labels = folder / "train-labels-idx1-ubyte.gz"
    content = gzip.decompress(labels.read_bytes())
    shuffled = np.random.default_rng(0).permutation(np.frombuffer(content[8:], np.uint8))
    labels.unlink()
    labels.write_bytes(gzip.compress(content[:8] + shuffled.tobytes(), 1))
    with webhook() as (url, received), pytest.MonkeyPatch.context() as patch:
        patch.setenv(NOTIFY_URL, url)
        config, source = TrainConfig(epochs=1, batch_size=512), DataSource(dataset=str(folder), name="mnist")
        yield Rejection(retrain_flow(config, source, return_state=True), received, config, source)


def test_a_better_version_becomes_the_champion_and_the_ledger_says_why(promoted: State[Any]) -> None:
    retrained: Retrained = promoted.result()
    model = retrained.trained.model
    assert (promoted.name, model.alias) == ("Completed", "champion")
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
    page = FlowRunFilter.model_validate({"id": {"any_": [promoted.state_details.flow_run_id]}})
    with get_client(sync_client=True) as prefect:
        (flow_run,) = prefect.read_flow_runs(flow_run_filter=page)
        artifacts = {artifact.key: str(artifact.data) for artifact in prefect.read_artifacts(flow_run_filter=page)}
    assert "promoted" in flow_run.tags
    assert flow_run.state
    assert str(flow_run.state.message).startswith("Promoted: accuracy")
    assert "was **promoted**" in artifacts["promotion-decision"]
    assert "McNemar" in artifacts["promotion-decision"]


def test_the_report_has_the_decision_and_the_images_on_which_the_two_differ(promoted: State[Any]) -> None:
    retrained: Retrained = promoted.result()
    page = (Path(retrained.trained.run.artifacts) / "report.html").read_text()
    assert f"Version {retrained.entry.version} was <b>promoted</b>" in page
    assert "Won: only the new version is right" in page
    assert f"{retrained.entry.numbers['wins']:.0f} images; these are the 12" in page


def test_a_version_that_learnt_shuffled_labels_is_rejected(promoted: State[Any], rejection: Rejection) -> None:
    assert rejection.state.name == "Completed"
    assert (rejection.state.message or "").startswith("Rejected: accuracy")
    champion, challenger = promoted.result().trained.model.number, rejection.retrained.trained.model
    assert (REGISTRY.champion, REGISTRY.version("challenger")) == (champion, challenger.number)
    entry = rejection.retrained.entry
    assert (entry.action, challenger.alias) == ("rejected", "challenger")
    failed = {check.name for check in entry.checks if not check.passed}
    assert failed >= {"floor", "significance", "margin", "recall"}
    assert "reload" not in failed
    assert "required: significantly more than" in entry.reasons[0]


def test_a_rejection_is_sent_to_the_webhook_with_links_to_both_runs(rejection: Rejection) -> None:
    (message,) = rejection.received
    assert message["event"] == "rejected"
    assert "required: significantly more than" in message["message"]
    assert message["prefect_url"].endswith(f"/runs/flow-run/{rejection.state.state_details.flow_run_id}")
    assert message["mlflow_url"] == rejection.retrained.trained.run.url


def test_what_would_make_the_champion_again_can_be_skipped(promoted: State[Any], source: DataSource) -> None:
    runs = len(MlflowClient().search_runs(["1"]))
    state = retrain_flow(FAST, source, skip_unchanged=True, return_state=True)
    assert state.message == f"Skipped: config, data and code are those of version {REGISTRY.champion}, the champion"
    assert len(MlflowClient().search_runs(["1"])) == runs


def test_what_would_be_rejected_again_can_be_skipped(rejection: Rejection) -> None:
    state = retrain_flow(rejection.config, rejection.source, skip_unchanged=True, return_state=True)
    number = rejection.retrained.trained.model.number
    assert state.message == f"Skipped: config, data and code are those of version {number}, which was rejected"


def test_a_champion_that_cannot_be_compared_with_is_known_before_the_training(prefect_api: str, tmp_path: Path) -> None:
    for file in BUNDLED.glob("*.gz"):
        (tmp_path / file.name).symlink_to(file)
    client = MlflowClient()
    client.create_registered_model("other-mlp")
    client.create_model_version("other-mlp", str(tmp_path))
    client.set_registered_model_alias("other-mlp", "champion", "1")
    with pytest.raises(ValueError, match=r"if model\.py has another network now, rename other-mlp in MLflow's UI"):
        retrain_flow(TrainConfig(epochs=1), DataSource(dataset=str(tmp_path), name="other"))
    assert not client.get_experiment_by_name("other")


def test_a_second_retraining_is_cancelled_while_one_is_running(prefect_api: str, source: DataSource) -> None:
    with processes.try_lock(in_progress_folder(), "retraining-mnist-mlp") as acquired:
        assert acquired
        state = retrain_flow(FAST, source, return_state=True)
    assert state.state_details.flow_run_id
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(state.state_details.flow_run_id)
    assert flow_run.state
    message = "Another retraining of mnist-mlp is running: run this one after it"
    assert (flow_run.state_name, flow_run.state.message) == ("Cancelled", message)


def test_a_retraining_leaves_neither_its_lock_nor_a_checkpoint(promoted: State[Any]) -> None:
    left = [path.name for path in in_progress_folder().iterdir()]
    assert "retraining.lock" not in left
    assert not [name for name in left if promoted.result().trained.run.id in name]
