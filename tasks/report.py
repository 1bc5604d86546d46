"""What Prefect and MLflow are told of each other."""

from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.runtime import flow_run

from mnist_pipeline import tracking
from mnist_pipeline.evaluation import Evaluation
from mnist_pipeline.tracking import ModelVersion, Run

FLOW_RUN_ID = "prefect.flow_run_id"


def flow_run_tags() -> dict[str, str]:
    """Name the Prefect flow run that is going on; there is none in a flow that was called without its decorator."""
    if not flow_run.id:
        return {}
    return {FLOW_RUN_ID: flow_run.id, "prefect.flow_run_name": flow_run.name, "prefect.flow_run_url": flow_run.ui_url}


def end_mlflow_run(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:
    """Let MLflow tell the same story as Prefect, where a run was ended in between the two: a hook of the flow's."""
    tracking.end_runs("KILLED" if state.is_crashed() else "FAILED", **{FLOW_RUN_ID: str(flow_run.id)})


def report_results(test: Evaluation, exam: Evaluation, model: ModelVersion, run: Run) -> None:
    """Put the results on the flow run's page, as an artifact."""
    rows = "\n".join(
        f"| {digit} | {p:.2%} | {r:.2%} | {f1:.2%} |"
        for digit, (p, r, f1) in enumerate(zip(test.precision, test.recall, test.f1, strict=True))
    )
    create_markdown_artifact(
        key="training-results",
        description="What this run reached, and where it is recorded",
        markdown=f"""\
| | accuracy | loss | calibration error |
| --- | --- | --- | --- |
| test | {test} | {test.loss:.4f} | {test.calibration_error:.4f} |
| exam | {exam} | {exam.loss:.4f} | {exam.calibration_error:.4f} |

Model `{model.uri}`, now `{model.alias}`. [The run in MLflow]({run.url})

| digit (test) | precision | recall | F1 |
| --- | --- | --- | --- |
{rows}
""",
    )
