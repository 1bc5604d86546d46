"""What each command takes. Only light imports here: a bad value is told at once, before anything is started."""

import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter

from flows.process import exiting_at_once, importing
from mnist_pipeline.config import RECIPES, ROOT, DataSource, RecipeName, TrainConfig

Flat = Parameter(name="*")  # a dataclass gives one option a field


def train(config: TrainConfig, source: DataSource) -> None:
    """Train a multilayer perceptron on MNIST, track the run in MLflow and register the model."""
    with importing():
        from flows.train_flow import train_flow

    trained = train_flow(config, source)
    print(f"""
Test accuracy  {trained.test}
Exam accuracy  {trained.exam}
Model          {trained.model.uri}, {trained.model.alias_uri}
MLflow run     {trained.run.id}
Figures        {trained.run.artifacts}/figures
To browse      make -C {ROOT} ui
then           {trained.run.url}""")


def run(command: Callable[[TrainConfig, DataSource], None]) -> NoReturn:
    """Run `command` on the words of the command line, and exit: with 1 after an error, 2 after a bad option."""
    with exiting_at_once():
        try:
            _app(_with_recipe(command, _recipe()))()
        except CycloptsError as error:
            error.verbose = False
            sys.exit(_complaint(error, code=2))
        except (ValueError, OSError, ArithmeticError) as error:
            sys.exit(_complaint(error, code=1))
        except KeyboardInterrupt:
            sys.exit(_complaint("stopped", code=130))
    sys.exit(0)


def _recipe() -> RecipeName:
    """Read `--recipe` ahead of the other options: it decides their defaults."""

    def read(*, recipe: RecipeName = "reference") -> RecipeName:
        return recipe

    _, bound, _, _ = _app(read, help_flags=[]).parse_known_args()
    return read(**bound.kwargs)


def _with_recipe(command: Callable[[TrainConfig, DataSource], None], name: RecipeName) -> Callable[..., None]:
    """Give `command` its options, with the defaults of the recipe `name`."""
    recipe_type = RECIPES[name]
    defaults = recipe_type()

    def with_options(
        *,
        recipe: Annotated[RecipeName, Parameter(help="Where the defaults of the others come from.")] = name,
        config: Annotated[recipe_type, Flat] = defaults,  # type: ignore[valid-type]
        source: Annotated[DataSource, Flat] = DataSource(),
    ) -> None:
        command(config, source)

    with_options.__doc__ = command.__doc__
    return with_options


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
    return "none" if default is None else str(default)


def _complaint(error: object, *, code: int) -> int:
    print(f"{sys.argv[0]}: {error}", file=sys.stderr)
    return code
