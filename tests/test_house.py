"""The house: imports point one way, and each library has its one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    file.relative_to(ROOT)
    for room in ("flows", "tasks", "serving", "mnist_pipeline")
    for file in ROOT.glob(f"{room}/*.py")
)
FORBIDDEN = {
    "mnist_pipeline": {"prefect", "tasks", "flows", "serving", "fastapi", "cyclopts", "rich"},
    "tasks": {"flows", "serving", "mlflow", "torch", "sklearn", "matplotlib"},
    "serving": {"flows", "tasks", "prefect", "mlflow", "sklearn", "matplotlib"},
    "flows": {"serving", "mlflow", "torch", "sklearn", "matplotlib"},
}


def imports(module: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse((ROOT / module).read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_one_way(module: Path) -> None:
    assert not {name.split(".")[0] for name in imports(module)} & FORBIDDEN[module.parts[0]]


def test_only_the_rooms_of_the_store_and_the_program_of_the_reload_check_import_mlflow() -> None:
    users = [module.name for module in MODULES if any(name.split(".")[0] == "mlflow" for name in imports(module))]
    assert users == ["database.py", "reload_check.py", "store.py", "tracking.py"]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(ast.parse((ROOT / module).read_text()))
