"""The command lines: options → a flow's parameters, one-line errors, exit codes. Imports only what is light."""

import contextlib
import errno
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

from cyclopts import (
    App,
    Argument,
    ArgumentCollection,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    Token,
    UnusedCliTokensError,
)
from cyclopts.config import Dict

from flows import prefect_api, startup
from flows.cron import Times
from mnist_pipeline.config import (
    CHAMPION,
    FAST,
    RECIPES,
    REFERENCE,
    ROOT,
    FieldError,
    Gate,
    Inspection,
    Search,
    TrainConfig,
    check,
    check_min_confidence,
    check_predictions_file,
)
from mnist_pipeline.data.source import DataSource
from mnist_pipeline.environment import keep_compiler_cache
from mnist_pipeline.process import Stopped
from mnist_pipeline.space import Space, space_from
from mnist_pipeline.text import counted, printable

NUMBERS = {int: "a whole number", float: "a number"}
# Python's, torch's on the CPU and on a card, and the loader's
SHORT_OF_MEMORY = re.compile("MemoryError|can't allocate memory|out of memory|failed to map segment")
Flat = Parameter(name="*")  # each field of a dataclass is an option
Fresh = Annotated[bool, Parameter(negative=(), help="Start anew if a training with this config was interrupted.")]

# Each of these is a command line: its parameters are the options, and what it does is check them.


def train(
    *,
    config: Annotated[TrainConfig, Flat] = REFERENCE,
    source: Annotated[DataSource, Flat] = DataSource(),
    fresh: Fresh = False,
    seeds: Annotated[
        int, Parameter(help="Number of trainings, with consecutive seeds from --seed on; only the first is registered.")
    ] = 1,
) -> None:
    """Train a multilayer perceptron on MNIST, or on your own images, track the run and register the model."""
    check(seeds >= 1, "seeds", seeds, "at least 1")
    check(config.seed + seeds <= 2**63, "seed", config.seed, f"below 2**63, as all {seeds} seeds must be")


def retrain(
    *,
    config: Annotated[TrainConfig, Flat] = REFERENCE,
    source: Annotated[DataSource, Flat] = DataSource(),
    gate: Annotated[Gate, Flat] = Gate(),
    fresh: Fresh = False,
    skip_unchanged: Annotated[
        bool | None,
        Parameter(
            help="Do nothing if the same would come out again: the champion, or what was rejected or rolled back.",
            show_default=False,
        ),
    ] = None,
    prune_keep: Annotated[
        int | None,
        Parameter(help="Then prune versions older than 30 days, but keep the latest N, as champion.py prune does."),
    ] = None,
    times: Annotated[Times, Flat] = Times(),
) -> None:
    """Train, and promote the new version to champion only if it is no worse: once, or on a schedule."""
    check(prune_keep is None or prune_keep >= 0, "prune_keep", prune_keep, "at least 0")


def sweep(
    *,
    search: Annotated[Search, Flat] = Search(),
    space: Annotated[Space, Flat] = Space(),
    space_file: Annotated[
        Path | None, Parameter(name="--space", help="TOML file in place of the options: units = [64, 128] and so on.")
    ] = None,
    source: Annotated[DataSource, Flat] = DataSource(),
    gate: Annotated[Gate, Flat] = Gate(),
) -> None:
    """Search for a better config on a Dask cluster, then train the best one and let the gate decide."""
    if space_file:
        space_from(space_file)


def predict(
    images: Annotated[Path, Parameter(help="Folder of images, or an IDX (.gz or not) or .npy file.")],
    /,
    *,
    model: Annotated[str, Parameter(help="Registered model, by alias or by version.")] = CHAMPION,
    out: Annotated[Path, Parameter(help="File to write, .parquet or .csv.")] = Path("predictions.parquet"),
    split: Annotated[
        bool,
        Parameter(negative=(), help="Read each digit of a row, from left to right, and the number that they make."),
    ] = False,
    explain: Annotated[
        Path | None, Parameter(help="Folder for a strip of images that shows how each picture was read.")
    ] = None,
    min_confidence: Annotated[
        float, Parameter(help="Leave the prediction empty where the confidence is lower, or the image is unclear.")
    ] = 0.0,
) -> None:
    """Predict the class of each image with a registered model."""
    if not images.exists():
        raise ValueError(f"there is no {images}: name a folder of images, an IDX or an .npy file")
    check_predictions_file(out)
    check_min_confidence(min_confidence)


def inspect(
    *,
    inspection: Annotated[Inspection, Flat] = Inspection(),
    config: Annotated[TrainConfig, Flat] = FAST,
    source: Annotated[DataSource, Flat] = DataSource(),
    out: Annotated[
        Path, Parameter(help="CSV file to write; a sheet of the most suspicious images is drawn beside it, as a PNG.")
    ] = Path("label-issues.csv"),
) -> None:
    """List the images whose labels look wrong, and estimate the accuracy by cross-validation.

    The recipe is fast unless one is named: its options, below, take the place of the defaults shown.
    """
    check(not config.patience, "patience", config.patience, "0, as a fold has no validation part to watch")
    check(out.suffix.lower() == ".csv", "out", out, "a name that ends in .csv")
    check(out.parent.is_dir(), "out", out, "in an existing folder")
    check(not out.exists(), "out", out, "a new file, as someone may have edited it")


def start(command: Callable[..., None], *others: Callable[..., None]) -> dict[str, Any]:
    """Parse the command line, and let the Prefect API boot while the caller makes its imports.

    One of the `others`, if its name is given, is all that is done.
    The exit code is 1 after an error, 2 if the command line cannot be understood.
    """
    startup.quick_exit(report_error)
    options = parse(command, None, *others)
    if getattr(options.get("config"), "compile", False):
        keep_compiler_cache()
    startup.pause_gc()
    prefect_api.ensure_prefect_api(schedules=bool(options.get("times", Times()).cron))
    return options


def parse(
    command: Callable[..., None], arguments: list[str] | None = None, *others: Callable[..., None]
) -> dict[str, Any]:
    """Return the options that the command line gives to `command`, checked.

    Exit if it only asks for help, or names one of the `others`, which is then carried out.
    """
    config = signature(command).parameters.get("config")
    epilogue = _describe_recipes() if config else ""
    app = make_app(help_epilogue=epilogue, config=partial(_apply_recipe, config.default.recipe if config else ""))
    app.default(command)
    for other in others:
        app.command(other)
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
    """Print `error` in one line, or with its traceback if it is not the user's; return the exit code.

    In Python's development mode (`python -X dev`) all of them have their traceback.
    """
    code, message = explain(error)
    with contextlib.suppress(OSError):  # whoever reads it is gone
        if message is None or sys.flags.dev_mode:
            traceback.print_exception(error)
        else:
            print(f"{sys.argv[0]}: {printable(message)}", file=sys.stderr)
    return code


def explain(error: BaseException) -> tuple[int, str | None]:
    """Return the exit code and the message for an error, none if it is not the user's."""
    match error:
        case CycloptsError():
            return 2, _explain_usage(error)
        case FieldError():
            return 1, f"{_option(error.field)} {error.problem}"
        case OSError(errno=errno.ENOSPC | errno.EACCES):
            place = error.filename2 or error.filename
            where = f": {place}" if place else ""
            return 1, f"{error.strerror}{where}; {_remedy(error, str(place))}"
        case ValueError() | OSError() | ArithmeticError():
            return 1, str(error)
        case Stopped():
            return error.code, str(error)
        case KeyboardInterrupt():
            return 130, "stopped"
        case MemoryError() | RuntimeError() | ImportError() if SHORT_OF_MEMORY.search(repr(error)):
            return 1, "there is not enough memory: smaller --hidden layers or a smaller --batch-size need less"
        case _:
            return 1, prefect_api.explain_prefect_error(error)


def _remedy(error: OSError, place: str) -> str:
    if error.errno == errno.ENOSPC:
        return "make room, and run the command again"
    own = ", or name a folder of your own in MNIST_PIPELINE_HOME" if ROOT in Path(place).parents else ""
    return f"give this user access to it{own}"


def _explain_usage(error: CycloptsError) -> str:
    """Return in plain words what is wrong with the command line, where cyclopts's own are not."""
    error.verbose = False
    match error:
        case UnusedCliTokensError(unused_tokens=[token, *_]):
            return f"unexpected argument {token}: options begin with --, and --help lists them"
        case MissingArgumentError(argument=Argument() as argument, tokens_so_far=given):
            wanted, _ = argument.token_count()
            if argument.tokens or error.keyword:
                return f"{error.keyword or argument.name} needs {counted(wanted, 'value')}, not {len(given) % wanted}"
            return f"{argument.name} is required: {argument.parameter.help}"
        case CoercionError(argument=Argument() as argument, token=Token() as token) if error.target_type in NUMBERS:
            return f"{token.keyword or argument.name} must be {NUMBERS[error.target_type]}, not {token.value}"
    return str(error)


def _apply_recipe(default: str, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Set the options that are not given as the recipe does that is named, or else the command's default."""
    given = arguments.get("--recipe", None)
    recipe = given.tokens[-1].value if given and given.tokens else default
    if preset := RECIPES.get(recipe):  # type: ignore[call-overload]
        settings = {name.replace("_", "-"): value for name, value in asdict(preset).items()}
        Dict(settings, use_commands_as_keys=False, allow_unknown=True)(app, commands, arguments)


def options_of(config: TrainConfig) -> list[str]:
    """Return the options, beside its recipe, that `config` differs from the reference recipe by."""
    return [
        _option(field.name) if value is True else f"{_option(field.name)} {_as_typed(value)}"
        for field in fields(config)
        if (value := getattr(config, field.name)) != field.default and field.name != "recipe"
    ]


def _describe_recipes() -> str:
    """Return the options that each recipe sets."""
    recipes = (
        f"--recipe {name}: {', '.join(options_of(preset)) or 'the defaults above'}" for name, preset in RECIPES.items()
    )
    return "\n\n".join(recipes)


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _as_typed(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "none" if value in (None, "") else str(value)
