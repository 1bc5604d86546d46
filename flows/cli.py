"""The command lines: options → a flow's parameters, one-line errors, exit codes. Imports only what is light."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter
from cyclopts.config import Dict

from flows import prefect_server, startup
from mnist_pipeline.config import (
    CHAMPION,
    RECIPES,
    REFERENCE,
    FieldError,
    Gate,
    Search,
    Space,
    TrainConfig,
    check_predictions_file,
    space_from,
)
from mnist_pipeline.data.source import DataSource

Flat = Parameter(name="*")  # each field of a dataclass is an option
Fresh = Annotated[bool, Parameter(negative=(), help="Start anew if a training with this config was interrupted.")]

# Each of these is a command line: its parameters are the options, and what it does is check them.


def train(
    *,
    config: Annotated[TrainConfig, Flat] = REFERENCE,
    source: Annotated[DataSource, Flat] = DataSource(),
    fresh: Fresh = False,
) -> None:
    """Train a multilayer perceptron on MNIST, or on your own images, track the run and register the model."""


def retrain(
    *,
    config: Annotated[TrainConfig, Flat] = REFERENCE,
    source: Annotated[DataSource, Flat] = DataSource(),
    gate: Annotated[Gate, Flat] = Gate(),
    fresh: Fresh = False,
    skip_unchanged: Annotated[
        bool, Parameter(negative=(), help="Do nothing if the same config, data and code made the champion.")
    ] = False,
    cron: Annotated[
        str, Parameter(help='Stay up, and retrain at these times: "0 3 * * *" is 3 o\'clock every night.')
    ] = "",
    timezone: Annotated[str, Parameter(help="Time zone of these times, such as Europe/Berlin.")] = "UTC",
) -> None:
    """Train, and promote the new version to champion only if it is no worse: once, or on a schedule."""
    if cron:
        from prefect.client.schemas.schedules import CronSchedule
        from pydantic import ValidationError

        try:
            CronSchedule(cron=cron, timezone=timezone)
        except ValidationError as error:
            (first, *_) = error.errors()
            problem = first["msg"].removeprefix("Value error, ")
            raise FieldError(str(first["loc"][0]), f"cannot be used: {problem}") from None


def sweep(
    *,
    search: Annotated[Search, Flat] = Search(),
    space: Annotated[Space, Flat] = Space(),
    space_file: Annotated[
        Path | None, Parameter(name="--space", help="TOML file with these choices and ranges, in place of the options.")
    ] = None,
    source: Annotated[DataSource, Flat] = DataSource(),
    gate: Annotated[Gate, Flat] = Gate(),
) -> None:
    """Search for a better config on a Dask cluster, then train the best one and let the gate decide."""
    if space_file:
        space_from(space_file)


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
    check_predictions_file(out)


def start(command: Callable[..., None]) -> dict[str, Any]:
    """Parse the command line, and let the Prefect API boot while the caller makes its imports.

    The exit code is 1 after an error, 2 after a bad option.
    """
    startup.set_environment()
    startup.quick_exit(report_error)
    options = parse(command)
    startup.pause_gc()
    prefect_server.ensure_prefect_api(schedules=bool(options.get("cron")))
    return options


def parse(command: Callable[..., None], arguments: list[str] | None = None) -> dict[str, Any]:
    """Return the options that the command line gives to `command`, checked; exit if it only asks for help."""
    app = make_app(help_epilogue=_describe_recipes() if command in (train, retrain) else "", config=_apply_recipe)
    app.default(command)
    chosen, bound, _ = app.parse_args(arguments)
    chosen(*bound.args, **bound.kwargs)
    if chosen is not command:
        sys.exit()
    bound.apply_defaults()
    return dict(bound.arguments)


def make_app(**settings: Any) -> App:
    """Return an app that raises errors, and shows defaults as they are typed."""
    return App(
        name=sys.argv[0],
        version_flags=[],
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=(), show_default=_as_typed),
        **settings,
    )


def report_error(error: BaseException) -> int:
    """Print `error` in one line, or with its traceback if it is not the user's; return the exit code."""
    code, message = explain(error)
    if message is None:
        traceback.print_exception(error)
    else:
        print(f"{sys.argv[0]}: {message}", file=sys.stderr)
    return code


def explain(error: BaseException) -> tuple[int, str | None]:
    """Return the exit code and the message for an error, none if it is not the user's."""
    match error:
        case CycloptsError():
            error.verbose = False
            return 2, str(error)
        case FieldError():
            return 1, f"{_option(error.field)} {error.problem}"
        case ValueError() | OSError() | ArithmeticError():
            return 1, str(error)
        case KeyboardInterrupt():
            return 130, "stopped"
        case _:
            return 1, prefect_server.explain_prefect_error(error)


def _apply_recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Let the recipe that is named set the options that are not given."""
    recipe = arguments.get("--recipe", None)
    if recipe and recipe.tokens and (preset := RECIPES.get(recipe.tokens[-1].value)):  # type: ignore[call-overload]
        settings = {name.replace("_", "-"): value for name, value in asdict(preset).items()}
        Dict(settings, use_commands_as_keys=False, allow_unknown=True)(app, commands, arguments)


def _describe_recipes() -> str:
    """Return the options that each recipe sets."""
    lines = []
    for name, preset in RECIPES.items():
        changed = [
            _option(field.name) if value is True else f"{_option(field.name)} {_as_typed(value)}"
            for field in fields(preset)
            if (value := getattr(preset, field.name)) != field.default and field.name != "recipe"
        ]
        lines.append(f"--recipe {name}: {', '.join(changed) or 'the defaults above'}")
    return "\n\n".join(lines)


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _as_typed(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "none" if value in (None, "") else str(value)
