"""The house: imports point one way, without a circle, and each library is used only where it belongs."""

import ast
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("flows", "tasks", "mnist_pipeline", "serving")
MODULES = sorted(file for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))
FORBIDDEN = [  # importer, imported
    ("mnist_pipeline", "tasks"),
    ("mnist_pipeline", "flows"),
    ("mnist_pipeline", "serving"),
    ("tasks", "flows"),
    ("tasks", "serving"),
    ("flows", "serving"),
    ("serving", "flows"),
    ("serving", "tasks"),
    ("mnist_pipeline.config", "mnist_pipeline.data"),
    ("mnist_pipeline.config", "mnist_pipeline.training"),
    ("mnist_pipeline.config", "mnist_pipeline.tracking"),
    ("mnist_pipeline.data", "mnist_pipeline.training"),
    ("mnist_pipeline.data", "mnist_pipeline.tracking"),
    ("mnist_pipeline.training", "mnist_pipeline.tracking"),
    ("mnist_pipeline.training", "mnist_pipeline.batch_inference"),
    ("mnist_pipeline.data", "mnist_pipeline.monitoring"),
    ("mnist_pipeline.training", "mnist_pipeline.monitoring"),
    ("mnist_pipeline.tracking", "mnist_pipeline.monitoring"),
    ("mnist_pipeline.monitoring", "mnist_pipeline.training"),
    ("mnist_pipeline.monitoring", "mnist_pipeline.tracking"),
]
BELONGS = {  # each library may be imported only from modules whose names begin so
    "prefect": ("flows.", "tasks."),
    "mlflow": tuple(
        f"mnist_pipeline.tracking.{room}"
        for room in (
            "all_or_nothing",
            "logged",
            "models",
            "pruning",
            "reload_check",
            "runs",
            "sqlite",
            "store",
            "transfer",
            "weights",
        )
    ),
    "cyclopts": ("flows.cli", "flows.champion", "flows.feedback", "flows.ui", "serving.__main__"),
    "rich": ("flows.champion", "tasks.train"),
    "fastapi": ("serving.",),
    "prometheus_client": ("serving.",),
    "torchvision": ("mnist_pipeline.data.mnist",),
    "optuna": ("flows.sweep_flow", "mnist_pipeline.training.search", "tasks.sweep", "tasks.trial"),
}
MAX_LINES = 300  # of a module


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All imports, those within functions included."""
    return grimp.build_graph(*LAYERS, include_external_packages=True, cache_dir=None)


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN)
def test_imports_point_one_way(graph: grimp.ImportGraph, importer: str, imported: str) -> None:
    wings = importer.count(".") > 0
    chains = graph.find_shortest_chains(importer=importer, imported=imported, as_packages=not wings or "." in imported)
    assert not chains


def test_there_is_no_import_circle(graph: grimp.ImportGraph) -> None:
    inside = {module for module in graph.modules if module.split(".")[0] in LAYERS}
    circles = [
        (module, imported)
        for module in inside
        for imported in graph.find_modules_directly_imported_by(module) & inside
        if graph.chain_exists(importer=imported, imported=module)
    ]
    assert not circles


@pytest.mark.parametrize("library", BELONGS)
def test_a_library_is_imported_only_where_it_belongs(graph: grimp.ImportGraph, library: str) -> None:
    importers = graph.find_modules_that_directly_import(library)
    assert importers
    assert not [module for module in importers if not module.startswith(BELONGS[library])]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.relative_to(ROOT).as_posix())
def test_a_module_says_what_it_is_and_is_one_room(module: Path) -> None:
    source = module.read_text()
    assert ast.get_docstring(ast.parse(source))
    assert len(source.splitlines()) <= MAX_LINES
