"""The champion and the other versions. Imports no Prefect for a local store, and torch only to compare or to export."""

from flows import startup

if __name__ == "__main__":  # before the other imports
    startup.begin()

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows import cli, prefect_api
from mnist_pipeline.config import CODE, check
from mnist_pipeline.data.source import dataset_name, dataset_of, model_name
from mnist_pipeline.process import stoppable
from mnist_pipeline.text import counted, duration, percent, printable

if TYPE_CHECKING:
    from rich.table import Table

    from mnist_pipeline.tracking.registry import Registry

Dataset = Annotated[str, Parameter(help="Name of the dataset, or its folder.")]
app = cli.make_app(help="The versions of a model: compared, put back, promoted by hand, pruned, imported and exported.")


@app.command
def history(*, dataset: Dataset = "mnist") -> None:
    """Print the ledger: what was decided about each version, when, by whom and why."""
    table = _table("time (UTC)", "version", "decision", "champion", "holdout", "by", "why", "data")
    with _registry(dataset) as registry:
        if not registry.versions:
            raise ValueError(f"there is no model {registry.name}: train it first, or name another --dataset")
        for entry in registry.history():
            table.add_row(
                entry.time[:16].replace("T", " "),
                str(entry.version),
                entry.action,
                f"{entry.champion_before or '–'} → {entry.champion or '–'}",
                percent(entry.numbers["accuracy"]) if "accuracy" in entry.numbers else "",
                *map(printable, (entry.by, "; ".join(entry.reasons), entry.data)),
            )
    if not table.row_count:
        raise ValueError("the ledger is empty: no version has been promoted yet")
    _print(table)


@app.command(name="list")
def list_versions(*, dataset: Dataset = "mnist") -> None:
    """Print all versions, decided or not: what each is worth, and what it was made of."""
    from mnist_pipeline.tracking.versions import versions

    table = _table("version", "decision", "holdout (95 % interval)", "test", "config", "data", "UTC", "size")
    with _registry(dataset) as registry:
        for each in versions(registry):
            row = (each.title, each.decision, each.holdout, each.test, each.config, each.data, each.created, each.size)
            table.add_row(*map(printable, row))
    _print(table)


@app.command
def compare(
    old: Annotated[int, Parameter(help="Number of a version.")],
    new: Annotated[int, Parameter(help="Number of the version to compare with it.")],
    /,
    *,
    dataset: Dataset = "mnist",
    out: Annotated[
        Path | None, Parameter(help="PNG of the images on which they differ, by default compare-OLD-NEW.png.")
    ] = None,
) -> None:
    """Print what differs between two versions, score both on the same holdout, and draw the images they differ on."""
    from mnist_pipeline.tracking.registry import resolve
    from mnist_pipeline.tracking.versions import differences, versions

    out = out or Path(f"compare-{old}-{new}.png")
    check(out.suffix == ".png" and out.parent.is_dir(), "out", out, "a name that ends in .png, in an existing folder")
    with _registry(dataset) as registry:
        for number in (old, new):
            resolve(registry.uri(number))
        known = {each.number: each for each in versions(registry)}
        pair = known[old], known[new]
        table = _table("", *(f"version {each.title}" for each in pair))
        for row in differences(*pair):
            table.add_row(*map(printable, row))
        _print(table)
        for each in pair:
            if not each.params:
                print(f"The run of version {each.number} is gone: its config is not known")
        from mnist_pipeline.tracking import comparison

        try:
            compared, note = comparison.compare(registry, *pair, dataset)
        except (ValueError, OSError) as error:
            print(printable(f"Not compared on images: {error}"))
            return
    print(f"\n{note}:")
    table = _table("", f"version {old}", f"version {new}")
    for row in compared.rows:
        table.add_row(*row)
    _print(table)
    print(compared.difference)
    if sheet := compared.contact_sheet():
        sheet.savefig(out)
        print(printable(f"The images on which they differ: {out}"))


@app.command
def rollback(
    *,
    reason: Annotated[str, Parameter(help="Why it is done, for the ledger.")] = "rolled back by hand",
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
    reason: Annotated[str, Parameter(help="Why it is done, for the ledger.")],
    dataset: Dataset = "mnist",
) -> None:
    """Make a version the champion by hand, whatever the gate decided."""
    with _registry(dataset, for_writing=True) as registry:
        entry = registry.promote_by_hand(version, reason=reason)
    before = f", in place of version {entry.champion_before}" if entry.champion_before else ""
    print(f"The champion is version {entry.champion}{before}")


@app.command
def prune(
    *,
    keep: Annotated[int, Parameter(help="Latest versions to keep, whatever their age.")] = 20,
    older_than: Annotated[str, Parameter(help="Age from which others are pruned: 30d, 12h or 30m.")] = "30d",
    yes: Annotated[bool, Parameter(negative=(), help="Delete them, rather than only list them.")] = False,
    dataset: Dataset = "mnist",
) -> None:
    """List the versions whose model and run would be deleted to make room; with --yes, delete them.

    Never the champion, the previous champion, the challenger, nor the ledger.
    """
    check(keep >= 0, "keep", keep, "at least 0")
    age = duration(older_than)
    with _registry(dataset, for_writing=yes) as registry:
        from mnist_pipeline.tracking import pruning

        old = pruning.old_versions(registry, keep=keep, older_than=age)
        for version in old if yes else ():
            pruning.prune(registry, version)
    numbers = ", ".join(map(str, old)) or "none"
    print(f"Pruned: {numbers}" if yes else f"Would be pruned: {numbers}" + ("; --yes prunes them" if old else ""))


@app.command(name="import")
def import_model(
    *,
    from_: Annotated[
        str, Parameter(name="--from", help="Address of the database to import from, such as sqlite:///mlflow.db.")
    ],
    dataset: Dataset = "mnist",
) -> None:
    """Bring another store's model, with its versions, ledger, runs and files, into the one of MLFLOW_TRACKING_URI."""
    with _registry(dataset, for_writing=True, must_exist=False) as registry:
        from mnist_pipeline.tracking.transfer import import_model

        imported = import_model(from_, registry.name, experiment=dataset_name(dataset))
        if not imported.versions:
            print(f"Nothing to import: all versions of {registry.name} are there")
            return
        champion = f"version {registry.champion} is the champion" if registry.champion else "none is the champion"
        versions, runs = counted(imported.versions, "version"), counted(imported.runs, "run")
        print(f"Imported {versions} of {registry.name} and {runs}: {champion}")


@app.command
def export(
    *,
    to: Annotated[Path, Parameter(help="New or empty folder.")],
    dataset: Annotated[
        str | None, Parameter(help="Name of the dataset, or its folder; by default the model's, or mnist.")
    ] = None,
    model: Annotated[
        str | None, Parameter(help="Registered model, by alias or by version; by default the dataset's champion.")
    ] = None,
    int8: Annotated[bool, Parameter(negative=(), help="Quantise the weights: a quarter of the size.")] = False,
    page: Annotated[bool, Parameter(negative=(), help="Add a page to draw on, for any static host.")] = False,
) -> None:
    """Write a version as an ONNX file with its labels, its card and, with --page, a page that needs no server."""
    is_there = dataset is None or "/" not in dataset or Path(dataset).is_dir()
    check(is_there, "dataset", dataset, "a name or an existing folder")
    from mnist_pipeline.tracking import store
    from mnist_pipeline.tracking.registry import resolve

    with store.as_store_errors():
        store.prepare()
        registry, version = resolve(model or f"models:/{model_name(dataset or 'mnist')}@champion")
        from mnist_pipeline.tracking import export as exports

        pages = [CODE / "serving" / name for name in ("page", "static_page")] if page else []
        dataset = dataset or dataset_of(registry.name)
        exported = exports.export(registry, version, to, dataset=dataset, int8=int8, pages=pages)
    print(*map(printable, str(exported).splitlines()), sep="\n")


def _table(*columns: str) -> "Table":
    from rich.table import Column, Table

    return Table(*(Column(column, overflow="fold") for column in columns), box=None, pad_edge=False)


def _print(table: "Table") -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)


@contextlib.contextmanager
def _registry(dataset: str, *, for_writing: bool = False, must_exist: bool = True) -> Iterator["Registry"]:
    """Yield the registered model of `dataset`; `for_writing`, no other machine can move its champion meanwhile."""
    from mnist_pipeline.tracking import store
    from mnist_pipeline.tracking.registry import Registry

    logging.getLogger("mnist_pipeline").setLevel(logging.WARNING)  # MLflow's imports silence loggers without a level
    startup.quiet_console()
    with store.as_store_errors():
        store.prepare()
        registry = Registry(model_name(dataset))
        if must_exist:
            registry.check_exists()
        if store.is_local() or not for_writing:
            yield registry
            return
        prefect_api.ensure_prefect_api()
        from tasks.champion_lock import champion_lock

        with champion_lock(registry):
            yield registry


if __name__ == "__main__":
    startup.quick_exit(cli.report_error)
    with stoppable():  # so that what is half written is deleted
        app()
