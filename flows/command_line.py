"""What each command takes. Only light imports here: a bad value is told at once, before anything is started."""

import contextlib
import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter

from flows.prefect_api import trouble_with_prefect
from flows.process import exiting_at_once, importing, naming_this_process
from mnist_pipeline.config import (
    CHAMPION,
    RECIPES,
    ROOT,
    DataSource,
    Gate,
    Pruner,
    RecipeName,
    Space,
    TrainConfig,
    check_out,
    model_name,
    space_from,
)

if TYPE_CHECKING:
    from flows.train_flow import Trained
    from mnist_pipeline.registry import Registry

Flat = Parameter(name="*")  # a dataclass gives one option a field
Dataset = Annotated[str, Parameter(help="Its name, or its folder.")]
Fresh = Annotated[bool, Parameter(negative=(), help="Start anew, where a training with this config was interrupted.")]


def train(
    *, config: Annotated[TrainConfig, Flat], source: Annotated[DataSource, Flat] = DataSource(), fresh: Fresh = False
) -> None:
    """Train a multilayer perceptron on MNIST, or on images of your own, track the run and register the model."""
    with importing():
        from flows.train_flow import train_flow
        from mnist_pipeline.data import import_readers

        import_readers()

    with naming_this_process():
        trained = train_flow(config, source, fresh=fresh)
    print(f"\n{_summary(trained)}")


def retrain(
    *,
    config: Annotated[TrainConfig, Flat],
    source: Annotated[DataSource, Flat] = DataSource(),
    gate: Annotated[Gate, Flat] = Gate(),
    fresh: Fresh = False,
    skip_unchanged: Annotated[
        bool, Parameter(negative=(), help="Do nothing where the same config, data and code made the champion.")
    ] = False,
    cron: Annotated[
        str | None, Parameter(help='Stay up, and retrain at these times: "0 3 * * *" is 3 every night.')
    ] = None,
    timezone: Annotated[str, Parameter(help="Of the times, such as Europe/Berlin.")] = "UTC",
    notify_url: Annotated[
        str | None,
        Parameter(env_var="MNIST_PIPELINE_NOTIFY_URL", help="Webhook to tell of runs that failed or were rejected."),
    ] = None,
) -> None:
    """Train, and promote the new version to champion only if it is no worse: once, or on a schedule."""
    if notify_url:
        if not notify_url.startswith(("http://", "https://")):
            raise ValueError(f"--notify-url must be a URL that begins with http:// or https://, not {notify_url}")
        os.environ["MNIST_PIPELINE_NOTIFY_URL"] = notify_url
    if cron:
        from flows.schedule import retrain_at

        retrain_at(cron, timezone, config, source, gate, fresh=fresh, skip_unchanged=skip_unchanged)
        return

    with importing():
        from flows.retrain_flow import Retrained, retrain_flow
        from mnist_pipeline.data import import_readers

        import_readers()

    with naming_this_process():
        state = retrain_flow(config, source, gate, fresh=fresh, skip_unchanged=skip_unchanged, return_state=True)
    if state.is_cancelled():
        sys.exit(_complaint(state.message, code=1))
    retrained = state.result()
    print(f"\n{state.name}: {state.message}")
    if isinstance(retrained, Retrained):
        print(_summary(retrained.trained))


def sweep(
    *,
    space: Annotated[Space, Flat] = Space(),
    space_file: Annotated[
        Path | None, Parameter(name="--space", help="TOML file with these choices and ranges, in place of the options.")
    ] = None,
    source: Annotated[DataSource, Flat] = DataSource(),
    gate: Annotated[Gate, Flat] = Gate(),
    trials: Annotated[int, Parameter(help="Configs to try, in all.")] = 20,
    epochs: Annotated[int, Parameter(help="Epochs of each, and of the best one's training.")] = 10,
    seed: Annotated[int, Parameter(help="Of the search and of each training.")] = 0,
    pruner: Annotated[Pruner, Parameter(help="How hopeless trials are stopped early.")] = "median",
    study: Annotated[str | None, Parameter(help="Name of the study; a new one unless it is named.")] = None,
    resume: Annotated[bool, Parameter(negative=(), help="Go on with the study, or with the latest.")] = False,
    workers: Annotated[int | None, Parameter(help="Processes of the local cluster; one a core unless named.")] = None,
    dask_address: Annotated[
        str | None, Parameter(help="A Dask cluster's scheduler, such as tcp://host:8786, in place of a local one.")
    ] = None,
) -> None:
    """Search for a better config on a Dask cluster, then train the best one and let the gate decide."""
    if trials < 1 or epochs < 1:
        raise ValueError(f"--trials and --epochs must be at least 1, not {trials} and {epochs}")
    if space_file:
        space = space_from(space_file)
    with importing():
        from flows.cluster import dask
        from flows.sweep_flow import Swept, sweep_flow
        from mnist_pipeline.data import import_readers
        from mnist_pipeline.search import study_to_open
        from mnist_pipeline.store import study_storage

        import_readers()

    with naming_this_process():
        name = study_to_open(study, study_storage(), resume=resume)
        flow = sweep_flow.with_options(task_runner=dask(address=dask_address, workers=workers))
        state = flow(
            space,
            source,
            gate,
            trials=trials,
            epochs=epochs,
            seed=seed,
            pruner=pruner,
            study_name=name,
            return_state=True,
        )
    swept = state.result()
    assert isinstance(swept, Swept)
    print(f"\nBest of {trials}    trial {swept.best_trial} of {name}, {swept.val_accuracy:.2%} on the validation part")
    print(f"{state.name}: {state.message}\n{_summary(swept.retrained.trained)}")


def history(*, dataset: Dataset = "mnist") -> None:
    """Print the ledger: what was decided about each version, when, by whom and why."""
    from rich.console import Console
    from rich.table import Table

    columns = ("time (UTC)", "version", "decision", "champion", "exam", "by", "why", "data")
    table = Table(*columns, box=None, pad_edge=False)
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


def rollback(*, reason: str = "rolled back by hand", dataset: Dataset = "mnist") -> None:
    """Make the previous champion the champion again."""
    with _registry(dataset) as registry:
        entry = registry.roll_back(reason=reason)
    print(f"The champion is version {entry.champion} again, in place of version {entry.champion_before}")


def promote(version: int, *, reason: str, dataset: Dataset = "mnist") -> None:
    """Make a version the champion by hand, whatever the gate said of it."""
    with _registry(dataset) as registry:
        entry = registry.promote_by_hand(version, reason=reason)
    print(f"The champion is version {entry.champion}, in place of version {entry.champion_before or 'none'}")


def predict(
    images: Annotated[Path, Parameter(help="Folder of PNG and JPEG images, or an IDX (.gz or not) or .npy file.")],
    /,
    *,
    model: Annotated[str, Parameter(help="Registered model, by alias or by version.")] = CHAMPION,
    out: Annotated[Path, Parameter(help="File to write, .parquet or .csv.")] = Path("predictions.parquet"),
) -> None:
    """Predict the class of each image with a registered model."""
    if not images.exists():
        raise ValueError(f"there is no {images}: name a folder of images, an IDX or an .npy file")
    check_out(out)
    with importing():
        from flows.predict_flow import predict_flow

    with naming_this_process():
        predicted = predict_flow(images.absolute(), model, out.absolute())
    print(f"\n{predicted.total:,} images → {out}, with {predicted.model}")
    for name, reason in predicted.unreadable.items():
        print(f"Not read: {name}: {reason}", file=sys.stderr)
    if predicted.unreadable:
        print(f"{len(predicted.unreadable):,} images could not be read, and are left out")


def run(command: Callable[..., None], *others: Callable[..., None]) -> NoReturn:
    """Run `command`, or one of the `others` that is named first, on the words of the command line, and exit.

    The exit code is 1 after an error, 2 after a bad option.
    """
    with exiting_at_once():
        try:
            takes_config = "config" in inspect.signature(command).parameters
            app = _app(_with_recipe(command, _recipe()) if takes_config else command)
            for other in others:
                app.command(other)
            app()
        except CycloptsError as error:
            error.verbose = False
            sys.exit(_complaint(error, code=2))
        except (ValueError, OSError, ArithmeticError) as error:
            sys.exit(_complaint(error, code=1))
        except KeyboardInterrupt:
            sys.exit(_complaint("stopped", code=130))
        except Exception as error:
            if not (trouble := trouble_with_prefect(error)):
                raise
            from mnist_pipeline.unfinished import leave_to_the_next

            leave_to_the_next()  # the API still takes the run for one that is going on
            sys.exit(_complaint(trouble, code=1))
    sys.exit(0)


def _recipe() -> RecipeName:
    """Read `--recipe` ahead of the other options: it decides their defaults."""

    def read(*, recipe: RecipeName = "reference") -> RecipeName:
        return recipe

    _, bound, _, _ = _app(read, help_flags=[]).parse_known_args()
    return read(**bound.kwargs)


def _with_recipe(command: Callable[..., None], name: RecipeName) -> Callable[..., None]:
    """Give the option `config` of `command` the fields and defaults of the recipe `name`."""
    recipe = RECIPES[name]
    signature = inspect.signature(command)
    parameters = {
        **signature.parameters,
        "config": signature.parameters["config"].replace(annotation=Annotated[recipe, Flat], default=recipe()),
    }

    @functools.wraps(command)
    def with_recipe(**options: Any) -> None:
        command(**{"config": recipe()} | options)

    with_recipe.__signature__ = signature.replace(parameters=[*parameters.values()])  # type: ignore[attr-defined]
    with_recipe.__annotations__ = {**command.__annotations__, "config": Annotated[recipe, Flat]}
    return with_recipe


def _summary(trained: "Trained") -> str:
    from mnist_pipeline.store import is_local

    browse = f"make -C {ROOT} ui\nthen           {trained.run.url}" if is_local() else trained.run.url
    return f"""\
Test accuracy  {trained.test}
Exam accuracy  {trained.exam}
Model          {trained.model.uri}, {trained.model.alias_uri}
MLflow run     {trained.run.id}
Figures        {trained.run.artifacts}/figures
To browse      {browse}"""


@contextlib.contextmanager
def _registry(dataset: str) -> Iterator["Registry"]:
    from mnist_pipeline.registry import Registry
    from mnist_pipeline.store import plain_errors, prepare

    logging.getLogger("mnist_pipeline").setLevel(logging.WARNING)  # MLflow's imports silence all that do not say
    with plain_errors():
        prepare()
        yield Registry(model_name(dataset))


def _app(command: Callable[..., object], **options: Any) -> App:
    app = App(
        name=sys.argv[0],
        version_flags=[],
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=(), show_default=_as_typed),
        **options,
    )
    app.default(command)
    return app


def _as_typed(default: object) -> str:
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    return "none" if default in (None, "") else str(default)


def _complaint(error: object, *, code: int) -> int:
    print(f"{sys.argv[0]}: {error}", file=sys.stderr)
    return code
