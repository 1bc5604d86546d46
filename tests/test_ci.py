"""What is kept in step: the workflow and .ci/run, the variables that are read and those that are described."""

import ast
import re
from itertools import chain

import pytest
import yaml

from mnist_pipeline.config import ROOT
from tests.test_house import MODULES

VARIABLE = re.compile(r"(MNIST_PIPELINE|PREFECT|MLFLOW|OPTUNA|TORCHINDUCTOR)_[A-Z_]+|DO_NOT_TRACK|NO_PROXY|CXX")
SET_FOR_CHILDREN = {  # of our own, whatever the environment says
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS",
    "PREFECT_API_BLOCKS_REGISTER_ON_START",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION",
    "PREFECT_SERVER_LOGGING_LEVEL",
}
EXAMPLE = (ROOT / ".env.example").read_text()


def test_the_workflow_runs_the_lines_of_ci_run() -> None:
    lines = re.findall(r"^make ([^#\n]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    targets = [word for line in lines for word in line.split() if not word.startswith("-")]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["linux"]["strategy"]["matrix"]["target"] == targets
    assert jobs["macos"]["strategy"]["matrix"]["target"] == ["check", "test"]
    for job in jobs.values():
        assert job["steps"][-1] == {"run": "make ${{ matrix.target }}"}


def test_the_workflow_tests_the_python_versions_that_are_claimed() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["linux"]["strategy"]["matrix"]["python"] == claimed


def test_a_commit_is_checked_by_make_check() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert (repo["repo"], [hook["entry"] for hook in repo["hooks"]]) == ("local", ["make check"])


def test_every_variable_that_is_read_is_described() -> None:
    nodes = chain.from_iterable(ast.walk(ast.parse(module.read_text())) for module in MODULES)
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    read = set(filter(VARIABLE.fullmatch, texts))
    assert {"MNIST_PIPELINE_HOME", "MLFLOW_TRACKING_URI", "DO_NOT_TRACK"} < read
    assert set(re.findall(r"^# ([A-Z_]+)=", EXAMPLE, re.MULTILINE)) == read - SET_FOR_CHILDREN


@pytest.mark.parametrize("line", [line for line in EXAMPLE.splitlines() if line])
def test_nothing_in_the_example_is_set_until_its_comment_is_removed(line: str) -> None:
    assert line.startswith("#")
