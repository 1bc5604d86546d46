"""One epoch of the flow on the real data, as MLflow and Prefect tell it."""

import time
from pathlib import Path
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from flows.train_flow import Trained, train_flow
from mnist_pipeline.config import DataSource, TrainConfig
from mnist_pipeline.provenance import provenance

DIGITS = range(10)


@pytest.fixture
def mlflow() -> MlflowClient:
    return MlflowClient()


@pytest.fixture
def flow_run(trained: Trained, mlflow: MlflowClient) -> FlowRunFilter:
    tags = mlflow.get_run(trained.run.id).data.tags
    return FlowRunFilter(id=FlowRunFilterId(any_=[UUID(tags["prefect.flow_run_id"])]))


def test_every_config_field_and_the_data_are_parameters(trained: Trained, mlflow: MlflowClient) -> None:
    params = mlflow.get_run(trained.run.id).data.params
    assert len(params.pop("data_sha256")) == len(params.pop("exam_sha256")) == 64
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
        "distortion": "0.0",
        "seed": "0",
        "threads": "0",
        "device": "auto",
        "bfloat16": "False",
        "turned": "False",
        "compile": "False",
        "dataset": "mnist",
        "train_size": "48000",
        "test_size": "12000",
        "exam_size": "10000",
    }


def test_the_losses_are_logged_at_each_epoch(trained: Trained, mlflow: MlflowClient) -> None:
    for name in ("train_loss", "last_batch_loss"):
        (metric,) = mlflow.get_metric_history(trained.run.id, name)
        assert metric.step == 1
        assert 0 < metric.value < 1


def test_every_number_of_both_evaluations_is_a_metric(trained: Trained, mlflow: MlflowClient) -> None:
    metrics = mlflow.get_run(trained.run.id).data.metrics
    for part, evaluation in (("test", trained.test), ("exam", trained.exam)):
        assert metrics[f"{part}_accuracy"] == evaluation.accuracy > 0.9
        assert metrics[f"{part}_loss"] == evaluation.loss
        assert metrics[f"{part}_calibration_error"] == evaluation.calibration_error
        assert [metrics[f"{part}_recall/{digit}"] for digit in DIGITS] == evaluation.recall.tolist()
    assert (trained.test.total, trained.exam.total) == (12_000, 10_000)


def test_the_run_names_its_code_and_its_prefect_run(trained: Trained, mlflow: MlflowClient) -> None:
    tags = mlflow.get_run(trained.run.id).data.tags
    assert provenance().items() <= tags.items()
    assert {"python", "torch", "mlflow", "prefect", "git_commit"} <= tags.keys()
    assert tags["prefect.flow_run_url"].endswith(tags["prefect.flow_run_id"])
    assert tags["mlflow.runName"] == tags["prefect.flow_run_name"]


def test_the_run_names_its_three_data_sets(trained: Trained, mlflow: MlflowClient) -> None:
    inputs = mlflow.get_run(trained.run.id).inputs
    assert inputs
    assert {(each.tags[0].value, each.dataset.name) for each in inputs.dataset_inputs} == {
        ("training", "mnist-training"),
        ("test", "mnist-test"),
        ("exam", "mnist-exam"),
    }


def test_the_figures_are_artifacts(trained: Trained, mlflow: MlflowClient) -> None:
    figures = sorted(Path(file.path).stem for file in mlflow.list_artifacts(trained.run.id, "figures"))
    assert figures == ["confusion_matrix", "loss_curve", "predictions", "surest_mistakes"]
    assert (Path(trained.run.artifacts) / "figures" / "predictions.png").is_file()


def test_one_finished_run_for_one_completed_flow_run(trained: Trained, mlflow: MlflowClient) -> None:
    tag = mlflow.get_run(trained.run.id).data.tags["prefect.flow_run_id"]
    (run,) = mlflow.search_runs([trained.run.experiment_id], f"tags.`prefect.flow_run_id` = '{tag}'")
    assert (run.info.run_id, run.info.status) == (trained.run.id, "FINISHED")
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(tag)  # type: ignore[arg-type]
    assert flow_run.state
    assert flow_run.state.is_completed()


def test_the_flow_run_has_its_seven_tasks_in_order(flow_run: FlowRunFilter) -> None:
    with get_client(sync_client=True) as prefect:
        for _ in range(50):  # the server records the states of tasks a moment later
            tasks = prefect.read_task_runs(flow_run_filter=flow_run)
            if len(tasks) == 7 and all(task.state and task.state.is_completed() for task in tasks):
                break
            time.sleep(0.2)
    tasks.sort(key=lambda task: task.start_time)  # type: ignore[arg-type, return-value]
    names = ["download", "split", "validate", "train", "evaluate", "visualize", "register"]
    assert [(task.name, task.state_name) for task in tasks] == [(name, "Completed") for name in names]


def test_the_results_are_on_the_flow_runs_page(trained: Trained, flow_run: FlowRunFilter) -> None:
    with get_client(sync_client=True) as prefect:
        artifacts = {artifact.key: artifact for artifact in prefect.read_artifacts(flow_run_filter=flow_run)}
    assert artifacts["training-progress"].data == 100
    artifact = artifacts["training-results"]
    assert isinstance(artifact.data, str)
    for part in (str(trained.test), str(trained.exam), trained.run.url, trained.model.uri):
        assert part in artifact.data


def test_a_stranger_is_told_what_the_run_is_and_how_to_load_its_model(trained: Trained, mlflow: MlflowClient) -> None:
    note = mlflow.get_run(trained.run.id).data.tags["mlflow.note.content"]
    version = mlflow.get_model_version("mnist-mlp", str(trained.model.number))
    for part in ("784-100-100-10", str(trained.test), str(trained.exam)):
        assert part in note
        assert part in str(version.description)
    assert f'load_model("{trained.model.uri}")' in note
    assert trained.run.url in str(version.description)
    assert "champion" in mlflow.get_registered_model("mnist-mlp").description


def test_an_error_ends_both_runs_as_failed(prefect_api: str, source: DataSource, mlflow: MlflowClient) -> None:
    with pytest.raises(FloatingPointError):
        train_flow(TrainConfig(epochs=1, lr=1e30, optimizer="sgd"), source, fresh=True)
    (run, *_) = mlflow.search_runs([mlflow.get_experiment_by_name("mnist").experiment_id])  # type: ignore[union-attr]
    assert run.info.status == "FAILED"
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(run.data.tags["prefect.flow_run_id"])  # type: ignore[arg-type]
    assert flow_run.state_name == "Failed"


def test_the_flow_works_without_its_decorator(source: DataSource, mlflow: MlflowClient) -> None:
    trained = train_flow.fn(TrainConfig(epochs=1, hidden=()), source)
    tags = mlflow.get_run(trained.run.id).data.tags
    assert not [name for name in tags if name.startswith("prefect.flow_run")]
