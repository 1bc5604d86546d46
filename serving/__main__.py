"""Serve the champion, with a page to draw a digit on: `python -m serving`."""

import os
import sys
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.types import Port

from mnist_pipeline.config import CHAMPION

app = App(name="python -m serving", version_flags=[], exit_on_error=False, print_error=False, verbose=False)


@app.default
def serve(
    *,
    port: Annotated[Port, Parameter(help="Port on 127.0.0.1, which only this machine can reach.")] = 8000,
    model: Annotated[str, Parameter(help="Registered model; an alias is followed as it moves.")] = CHAMPION,
) -> None:
    """Serve a registered model, with a page to draw a digit on."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    import torch
    import uvicorn

    from mnist_pipeline.tracking.store import as_store_errors, prepare
    from serving.app import create_app

    torch.set_num_threads(1)  # a small network gains nothing from a second, and waits for it on a busy machine
    sys.setswitchinterval(0.0005)  # a request does not wait 5 ms for the thread that polls the alias
    with as_store_errors():
        prepare()
        web = create_app(model)
    print(f"Draw an image on http://127.0.0.1:{port}", flush=True)
    uvicorn.run(
        web,
        host="127.0.0.1",
        port=port,
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=200,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    try:
        app()
    except (CycloptsError, ValueError, OSError) as error:
        sys.exit(f"serving: {error}")
