"""The champion: its history, rollback, and promotion by hand. Imports neither torch nor, for a local store, Prefect."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows import cli, prefect_server, startup
from mnist_pipeline.data.source import model_name

if TYPE_CHECKING:
    from mnist_pipeline.tracking.registry import Registry

Dataset = Annotated[str, Parameter(help="Name of the dataset, or its folder.")]
app = cli.make_app(help="Show the champion's history, roll back, or promote a version by hand.")


@app.command
def history(*, dataset: Dataset = "mnist") -> None:
    """Print the ledger: what was decided about each version, when, by whom and why."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "time (UTC)", "version", "decision", "champion", "holdout", "by", "why", "data", box=None, pad_edge=False
    )
    with _registry(dataset) as registry:
        for entry in registry.history():
            table.add_row(
                entry.time[:16].replace("T", " "),
                str(entry.version),
                entry.action,
                f"{entry.champion_before or '–'} → {entry.champion or '–'}",
                f"{entry.numbers['accuracy']:.2%}" if "accuracy" in entry.numbers else "",
                entry.by,
                "; ".join(entry.reasons),
                entry.data,
            )
    if not table.row_count:
        raise ValueError("the ledger is empty: no version has been promoted yet")
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command
def rollback(
    *,
    reason: Annotated[str, Parameter(help="Why, for the ledger.")] = "rolled back by hand",
    dataset: Dataset = "mnist",
) -> None:
    """Make the previous champion the champion again."""
    with _registry(dataset, for_writing=True) as registry:
        entry = registry.roll_back(reason=reason)
    print(f"The champion is version {entry.champion} again, in place of version {entry.champion_before}")


@app.command
def promote(
    version: Annotated[int, Parameter(help="Number of the version.")],
    /,
    *,
    reason: Annotated[str, Parameter(help="Why, for the ledger.")],
    dataset: Dataset = "mnist",
) -> None:
    """Make a version the champion by hand, whatever the gate decided."""
    with _registry(dataset, for_writing=True) as registry:
        entry = registry.promote_by_hand(version, reason=reason)
    print(f"The champion is version {entry.champion}, in place of version {entry.champion_before or 'none'}")


@contextlib.contextmanager
def _registry(dataset: str, *, for_writing: bool = False) -> Iterator["Registry"]:
    """Yield the registered model of `dataset`; `for_writing`, no other machine can move its champion meanwhile."""
    from mnist_pipeline.tracking import store
    from mnist_pipeline.tracking.registry import Registry

    logging.getLogger("mnist_pipeline").setLevel(logging.WARNING)  # MLflow's imports silence loggers without a level
    with store.as_store_errors():
        store.prepare()
        registry = Registry(model_name(dataset))
        if store.is_local() or not for_writing:
            yield registry
            return
        prefect_server.ensure_prefect_api()
        from tasks.champion_lock import champion_lock

        with champion_lock(registry):
            yield registry


if __name__ == "__main__":
    startup.set_environment()
    startup.quick_exit(cli.report_error)
    app()
