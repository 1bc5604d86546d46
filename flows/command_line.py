"""What each command takes. Only light imports here: a bad value is told at once, before anything is started."""

import logging
import signal
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter

from flows.prefect_api import ensure_prefect_api
from mnist_pipeline.config import ROOT, DataSource, TrainConfig

Flat = Parameter(name="*")  # a dataclass gives one option a field


def train(
    config: Annotated[TrainConfig, Flat] = TrainConfig(),
    source: Annotated[DataSource, Flat] = DataSource(),
) -> None:
    """Train a multilayer perceptron on MNIST, track the run in MLflow and register the model."""
    ensure_prefect_api()
    from flows.train_flow import train_flow

    _keep_tracebacks_off_the_console()
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app = App(
        name=sys.argv[0],
        version_flags=[],
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=()),
    )
    app.default(command)
    try:
        app()
    except CycloptsError as error:
        sys.exit(_complaint(error, code=2))
    except (ValueError, OSError, ArithmeticError) as error:
        sys.exit(_complaint(error, code=1))
    except KeyboardInterrupt:
        sys.exit(_complaint("stopped", code=128 + signal.SIGINT))
    sys.exit(0)


def _keep_tracebacks_off_the_console() -> None:
    """Prefect logs a traceback for the task and one for the flow: its API keeps them, and here one line says it all.

    An error that is not the user's still ends in Python's own traceback.
    """

    def shorten(record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None  # the API's handler, on the inner logger, has had its turn
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(shorten)


def _complaint(error: object, *, code: int) -> int:
    print(f"{sys.argv[0]}: {error}", file=sys.stderr)
    return code
