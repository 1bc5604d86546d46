"""What each command takes. Only light imports here: a bad value is told at once, before anything is started."""

import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter

from flows.process import exiting_at_once, importing
from mnist_pipeline.config import ROOT, DataSource, TrainConfig

Flat = Parameter(name="*")  # a dataclass gives one option a field


def train(
    config: Annotated[TrainConfig, Flat] = TrainConfig(),
    source: Annotated[DataSource, Flat] = DataSource(),
) -> None:
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


def run(command: Callable[..., None]) -> NoReturn:
    """Run `command` on the words of the command line, and exit: with 1 after an error, 2 after a bad option."""
    app = App(
        name=sys.argv[0],
        version_flags=[],
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=(), show_default=_as_typed),
    )
    app.default(command)
    with exiting_at_once():
        try:
            app()
        except CycloptsError as error:
            sys.exit(_complaint(error, code=2))
        except (ValueError, OSError, ArithmeticError) as error:
            sys.exit(_complaint(error, code=1))
        except KeyboardInterrupt:
            sys.exit(_complaint("stopped", code=130))
    sys.exit(0)


def _as_typed(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _complaint(error: object, *, code: int) -> int:
    print(f"{sys.argv[0]}: {error}", file=sys.stderr)
    return code
