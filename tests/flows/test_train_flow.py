"""One epoch of the flow on the real data, as MLflow and Prefect recorded it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import ParameterTypeError

from flows.train_flow import Trained, train_flow
from mnist_pipeline.config import FAST, ROOT, TrainConfig
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.tracking.provenance import provenance
from tasks.notify import NOTIFY_URL
from tests.servers import eventually, webhook

DIGITS = range(10)


@pytest.fixture
def mlflow() -> MlflowClient:
    return MlflowClient()


@pytest.fixture
def flow_run(trained: Trained, mlflow: MlflowClient) -> FlowRunFilter:
    tags = mlflow.get_run(trained.run.id).data.tags
    return FlowRunFilter.model_validate({"id": {"any_": [tags["prefect.flow_run_id"]]}})


def test_every_config_field_and_the_data_are_parameters_of_the_run(trained: Trained, mlflow: MlflowClient) -> None:
    params = mlflow.get_run(trained.run.id).data.params
    assert len(params.pop("data_sha256")) == len(params.pop("holdout_sha256")) == 64
    assert params == {
        "recipe": "reference",
        "epochs": "1",
        "lr": "0.001",
        "schedule": "constant",
        "batch_size": "64",
        "hidden": "[100, 100]",
        "optimizer": "adam",
        "dropout": "0.0",
        "batch_norm": "False",
        "label_smoothing": "0.0",
        "augmentation": "0.0",
        "tta": "False",
        "seed": "0",
        "threads": "0",
        "device": "auto",
        "compile": "False",
        "dataset": "mnist",
        "train_size": "48000",
        "test_size": "12000",
        "holdout_size": "10000",
    }


def test_the_losses_are_logged_at_each_epoch(trained: Trained, mlflow: MlflowClient) -> None:
    for name in ("train_loss", "last_batch_loss"):
        (metric,) = mlflow.get_metric_history(trained.run.id, name)
        assert metric.step == 1
        assert 0 < metric.value < 1


def test_every_number_of_both_evaluations_is_a_metric(trained: Trained, mlflow: MlflowClient) -> None:
    metrics = mlflow.get_run(trained.run.id).data.metrics
    for part, evaluation in (("test", trained.test), ("holdout", trained.holdout)):
        assert metrics[f"{part}_accuracy"] == evaluation.accuracy > 0.9
        assert metrics[f"{part}_loss"] == evaluation.loss
        assert metrics[f"{part}_calibration_error"] == evaluation.calibration_error
        assert [metrics[f"{part}_recall/{digit}"] for digit in DIGITS] == evaluation.recall.tolist()
    assert (trained.test.total, trained.holdout.total) == (12_000, 10_000)


def test_the_mlflow_run_names_its_code_and_its_prefect_run(trained: Trained, mlflow: MlflowClient) -> None:
    tags = mlflow.get_run(trained.run.id).data.tags
    assert provenance().items() <= tags.items()
    assert {"python", "torch", "mlflow", "prefect", "git_commit"} <= tags.keys()
    assert tags["prefect.flow_run_url"].endswith(tags["prefect.flow_run_id"])
    assert tags["mlflow.runName"] == tags["prefect.flow_run_name"]


def test_the_mlflow_run_names_its_three_datasets(trained: Trained, mlflow: MlflowClient) -> None:
    inputs = mlflow.get_run(trained.run.id).inputs
    assert inputs
    assert {(each.tags[0].value, each.dataset.name) for each in inputs.dataset_inputs} == {
        ("training", "mnist-training"),
        ("test", "mnist-test"),
        ("holdout", "mnist-holdout"),
    }


def test_the_figures_are_artifacts_of_the_mlflow_run(trained: Trained, mlflow: MlflowClient) -> None:
    figures = sorted(Path(file.path).stem for file in mlflow.list_artifacts(trained.run.id, "figures"))
    assert figures == ["confident_mistakes", "confusion_matrix", "loss_curve", "predictions"]
    assert (Path(trained.run.artifacts) / "figures" / "predictions.png").is_file()


def test_a_completed_flow_run_has_one_finished_mlflow_run(trained: Trained, mlflow: MlflowClient) -> None:
    tag = mlflow.get_run(trained.run.id).data.tags["prefect.flow_run_id"]
    (run,) = mlflow.search_runs([trained.run.experiment_id], f"tags.`prefect.flow_run_id` = '{tag}'")
    assert (run.info.run_id, run.info.status) == (trained.run.id, "FINISHED")
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(UUID(tag))
    assert flow_run.state
    assert flow_run.state.is_completed()


def test_the_flow_run_has_seven_completed_tasks_in_order(flow_run: FlowRunFilter) -> None:
    tasks: list[TaskRun] = []

    def completed() -> bool:  # the server records the states of tasks a moment later
        with get_client(sync_client=True) as prefect:
            tasks[:] = prefect.read_task_runs(flow_run_filter=flow_run)
        return len(tasks) == 7 and all(task.state_name == "Completed" for task in tasks)

    eventually(completed, every=0.2)
    tasks.sort(key=lambda task: str(task.start_time))
    names = ["download", "split", "validate", "train", "evaluate", "visualize", "register"]
    assert [task.name for task in tasks] == names


def test_the_results_are_on_the_flow_runs_page(trained: Trained, flow_run: FlowRunFilter) -> None:
    with get_client(sync_client=True) as prefect:
        artifacts = {artifact.key: artifact.data for artifact in prefect.read_artifacts(flow_run_filter=flow_run)}
    assert artifacts["training-progress"] == 100
    for part in (str(trained.test), str(trained.holdout), trained.run.url, trained.model.uri):
        assert part in str(artifacts["training-results"])


def test_the_run_and_the_version_describe_themselves_and_how_to_load_the_model(
    trained: Trained, mlflow: MlflowClient
) -> None:
    note = mlflow.get_run(trained.run.id).data.tags["mlflow.note.content"]
    version = mlflow.get_model_version("mnist-mlp", str(trained.model.number))
    for part in ("784-100-100-10", str(trained.test), str(trained.holdout)):
        assert part in note
        assert part in str(version.description)
    assert f'load_model("{trained.model.uri}")' in note
    assert trained.run.url in str(version.description)
    assert "champion" in mlflow.get_registered_model("mnist-mlp").description


def test_the_summary_of_a_training_says_how_to_browse_it(trained: Trained) -> None:
    for part in (str(trained.test), str(trained.holdout), trained.model.uri, trained.run.id, f"make -C {ROOT} ui"):
        assert part in str(trained)


def test_the_flow_works_without_its_decorator(source: DataSource, mlflow: MlflowClient) -> None:
    trained = train_flow.fn(TrainConfig(epochs=1, hidden=(), batch_size=512), source)
    tags = mlflow.get_run(trained.run.id).data.tags
    assert not [name for name in tags if name.startswith("prefect.flow_run")]


@dataclass(frozen=True)
class Failure:
    """A flow run that failed, and what a webhook received of it."""

    state: State[Any]
    received: list[dict[str, Any]]


@pytest.fixture(scope="module")
def failure(prefect_api: str, source: DataSource) -> Iterator[Failure]:
    with webhook() as (url, received), pytest.MonkeyPatch.context() as patch:
        patch.setenv(NOTIFY_URL, url)
        diverging = TrainConfig(epochs=1, lr=1e30, optimizer="sgd", batch_size=512)
        yield Failure(train_flow(diverging, source, fresh=True, return_state=True), received)


def test_an_error_ends_both_runs_as_failed(failure: Failure, mlflow: MlflowClient) -> None:
    assert failure.state.is_failed()
    with pytest.raises(FloatingPointError):
        failure.state.result()
    flow_run = failure.state.state_details.flow_run_id
    (run,) = mlflow.search_runs(["1"], f"tags.`prefect.flow_run_id` = '{flow_run}'")
    assert run.info.status == "FAILED"


def test_a_failure_is_sent_to_the_webhook(failure: Failure) -> None:
    (message,) = failure.received
    assert message["event"] == "failed"
    assert "lower the learning rate" in message["message"]
    assert message["prefect_url"].endswith(f"/runs/flow-run/{failure.state.state_details.flow_run_id}")


def test_a_config_as_json_takes_its_recipes_defaults() -> None:
    parameters = train_flow.validate_parameters({"config": {"recipe": "fast", "epochs": 5, "hidden": [30, 20]}})
    assert parameters["config"] == replace(FAST, epochs=5, hidden=(30, 20))


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"learning_rate": 0.1}, "has no field learning_rate; its fields are recipe, epochs, lr, "),
        ({"recipe": "slow"}, "recipe must be one of reference, fast, accurate, best, not slow"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
    ],
)
def test_a_config_as_json_is_refused_if_it_makes_no_sense(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ParameterTypeError, match=problem):
        train_flow.validate_parameters({"config": config})
