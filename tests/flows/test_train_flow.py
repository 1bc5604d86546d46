"""One epoch of the flow on the real data, as MLflow and Prefect recorded it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import torch
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import ValidationError, validate

from flows.retrain_flow import retrain_flow
from flows.train_flow import Trained, train_flow
from mnist_pipeline.config import FAST, ROOT, TrainConfig
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import models
from mnist_pipeline.tracking.provenance import provenance
from tasks.notify import NOTIFY_URL
from tests.servers import eventually, webhook


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
        "class_weights": "none",
        "augmentation": "0.0",
        "tta": "False",
        "validation": "0.0",
        "patience": "0",
        "seed": "0",
        "threads": "0",
        "device": "auto",
        "compile": "False",
        "dataset": "mnist",
        "train_size": "48000",
        "test_size": "12000",
        "holdout_size": "10000",
    }


def test_the_losses_and_the_accuracy_are_logged_at_each_epoch_and_once_more_for_the_model(
    trained: Trained, mlflow: MlflowClient
) -> None:
    for name, steps in {
        "train_loss": [1],
        "last_batch_loss": [1],
        "test_loss": [1, 2],
        "test_accuracy": [1, 2],
    }.items():
        metrics = mlflow.get_metric_history(trained.run.id, name)
        assert [metric.step for metric in metrics] == steps
        assert all(0 < metric.value < 1 for metric in metrics)


def test_without_a_validation_part_the_temperature_is_fitted_on_the_test_split(
    trained: Trained, mlflow: MlflowClient
) -> None:
    run = trained.run.id
    losses, accuracies = (mlflow.get_metric_history(run, name) for name in ("test_loss", "test_accuracy"))
    assert mlflow.get_run(run).data.metrics["temperature"] != 1
    assert losses[-1].value < losses[-2].value  # of the last epoch's network, before and after
    assert accuracies[-1].value == pytest.approx(accuracies[-2].value, abs=1e-9)


def test_the_numbers_that_runs_are_compared_by_are_metrics(trained: Trained, mlflow: MlflowClient) -> None:
    metrics = mlflow.get_run(trained.run.id).data.metrics
    for part, evaluation in (("test", trained.test), ("holdout", trained.holdout)):
        assert metrics[f"{part}_accuracy"] == evaluation.accuracy > 0.9
        assert metrics[f"{part}_loss"] == evaluation.loss
        assert metrics[f"{part}_calibration_error"] == evaluation.calibration_error
    assert not [name for name in metrics if "/" in name]  # none for each class: they would drown the rest
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
    assert figures == ["confusion_matrix", "curves", "predictions", "reliability"]
    assert (Path(trained.run.artifacts) / "figures" / "predictions.png").is_file()


def test_the_report_is_an_artifact_of_the_mlflow_run(trained: Trained) -> None:
    page = (Path(trained.run.artifacts) / "report.html").read_text()
    for part in (
        f"mnist-mlp, version {trained.model.number}",
        f">{trained.model.alias}<",
        "epochs 1, reference",
        trained.run.id,
    ):
        assert part in page


def test_a_completed_flow_run_has_one_finished_mlflow_run(trained: Trained, mlflow: MlflowClient) -> None:
    tag = mlflow.get_run(trained.run.id).data.tags["prefect.flow_run_id"]
    (run,) = mlflow.search_runs([trained.run.experiment_id], f"tags.`prefect.flow_run_id` = '{tag}'")
    assert (run.info.run_id, run.info.status) == (trained.run.id, "FINISHED")
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(UUID(tag))
    assert flow_run.state
    assert flow_run.state.is_completed()


def test_the_flow_run_has_eight_completed_tasks_in_order(flow_run: FlowRunFilter) -> None:
    tasks: list[TaskRun] = []

    def completed() -> bool:  # the server records the states of tasks a moment later
        with get_client(sync_client=True) as prefect:
            tasks[:] = prefect.read_task_runs(flow_run_filter=flow_run)
        return len(tasks) == 8 and all(task.state_name == "Completed" for task in tasks)

    eventually(completed, every=0.2)
    tasks.sort(key=lambda task: str(task.start_time))
    names = ["download", "split", "validate", "train", "evaluate", "visualize", "register", "report"]
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
    assert "| --- |" not in note  # MLflow's UI shows a table without gaps between its columns
    assert trained.run.comparison_url in note
    assert "champion" in mlflow.get_registered_model("mnist-mlp").description


def test_the_summary_of_a_training_says_how_to_browse_it(trained: Trained) -> None:
    made = (str(trained.test), str(trained.holdout), trained.model.uri, trained.run.id)
    for part in (*made, f"make -C {ROOT} ui", f"make -C {ROOT} server", "/runs/flow-run/"):
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
        ({"learning_rate": 0.1}, "config.learning_rate: Unexpected keyword argument"),
        ({"recipe": "slow"}, "config.recipe: Input should be 'reference', 'fast', 'accurate' or 'best'"),
        ({"recipe": ["fast"]}, "config.recipe: Input should be "),
        ({"epochs": "many"}, "config.epochs: Input should be a valid integer"),
        ({"optimizer": "adm"}, "config.optimizer: Input should be 'sgd', "),
        ({"hidden": 100}, "config.hidden: Input should be a valid tuple"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
    ],
)
def test_a_config_as_json_is_refused_if_it_makes_no_sense(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ParameterTypeError, match=problem):
        train_flow.validate_parameters({"config": config})


@pytest.mark.parametrize(
    "parameters",
    [
        {"config": {"epoch": 1}},
        {"config": {"optimizer": "adm"}},
        {"gate": {"flor": 0.9}},
        {"source": {"datset": "mnist"}},
    ],
    ids=str,
)
def test_what_a_deployment_does_not_know_is_refused_when_a_run_of_it_is_made(parameters: dict[str, Any]) -> None:
    schema = parameter_schema(retrain_flow.fn).model_dump()  # by which Prefect's server checks a new run's parameters
    known = {"config": {"recipe": "fast", "hidden": [30, 20]}, "source": {"dataset": "mnist"}}
    validate(known, schema, raise_on_error=True)
    with pytest.raises(ValidationError):
        validate(parameters, schema, raise_on_error=True)


@pytest.fixture(scope="module")
def spread(prefect_api: str, source: DataSource) -> Trained:
    """The first of two trainings that differ in their seed, with a validation part."""
    config = TrainConfig(epochs=2, hidden=(), batch_size=512, seed=7, validation=0.1, patience=1)
    return train_flow(config, source, seeds=2)


def test_trainings_that_differ_in_their_seed_are_children_of_one_run_and_the_first_is_registered(
    spread: Trained, mlflow: MlflowClient
) -> None:
    first = mlflow.get_run(spread.run.id)
    parent = first.data.tags["mlflow.parentRunId"]
    children = mlflow.search_runs([spread.run.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {child.data.params["seed"] for child in children} == {"7", "8"}
    accuracies = [child.data.metrics["holdout_accuracy"] for child in children]
    metrics = mlflow.get_run(parent).data.metrics
    assert metrics["holdout_accuracy_mean"] == pytest.approx(sum(accuracies) / 2)
    assert metrics["holdout_accuracy_sd"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    run_ids = [child.info.run_id for child in children]
    versions = [each.run_id for each in mlflow.search_model_versions("name = 'mnist-mlp'") if each.run_id in run_ids]
    assert versions == [spread.run.id]
    assert first.data.params["seed"] == "7"
    assert "(mean ± standard deviation); the first, seed 7, is registered" in str(spread)


def test_a_validation_part_gives_curves_a_best_epoch_and_the_models_temperature(
    spread: Trained, mlflow: MlflowClient, splits: Splits
) -> None:
    for name in ("val_loss", "val_accuracy"):
        assert [metric.step for metric in mlflow.get_metric_history(spread.run.id, name)] == [1, 2]
    run = mlflow.get_run(spread.run.id)
    assert run.data.tags["best_epoch"] == "2"
    assert 0.5 < run.data.metrics["temperature"] < 2
    before, after = (metric.value for metric in mlflow.get_metric_history(spread.run.id, "test_loss")[-2:])
    assert before != after  # the model's is with the temperature
    probabilities = models.load_network(spread.model.uri)(splits.holdout.pixels)
    assert torch.allclose(probabilities, spread.holdout.probabilities, atol=1e-6)
