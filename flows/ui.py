"""The lasting servers, to browse what was run: `python -m flows.ui mlflow` and `python -m flows.ui prefect`."""

from flows import startup

if __name__ == "__main__":  # before the other imports
    startup.begin()

import os
import sys
from typing import Annotated

from cyclopts import CycloptsError, Parameter, validators

from flows import cli, prefect_api
from mnist_pipeline import process
from mnist_pipeline.web import listen

app = cli.make_app()
Port = Annotated[int, Parameter(help="Port on 127.0.0.1.", validator=validators.Number(gte=1, lte=65535))]


@app.command
def mlflow(*, port: Port = 5000) -> None:
    """Serve MLflow's UI for the database that the flows write to."""
    listen(port, remedy=f'make ui ARGS="--port {port + 1}" takes another').close()
    from mnist_pipeline.tracking import store

    with store.as_store_errors():
        store.prepare()
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.tracking_uri()  # it may hold a password: not an argument
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    hosts = f"127.0.0.1:{port},localhost:{port}"
    options = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", hosts]
    sys.exit(process.run([sys.executable, "-m", "mlflow", "ui", *options]))  # a signal would end only half of it


@app.command
def prefect(*, port: Port | None = None) -> None:
    """Serve Prefect's UI and API, by default on port 4200 or that of PREFECT_UI_URL."""
    prefect_api.serve_forever(port)


if __name__ == "__main__":
    try:
        app()
    except (CycloptsError, ValueError, OSError, KeyboardInterrupt) as error:
        sys.exit(cli.report_error(error))
