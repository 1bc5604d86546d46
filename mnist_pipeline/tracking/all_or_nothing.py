"""An import is seen whole or not at all, whatever ends it."""

import contextlib
from collections.abc import Iterator
from uuid import uuid4

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from mnist_pipeline.tracking import store
from mnist_pipeline.tracking.pruning import delete_artifacts

IMPORT = "import"  # tag of all that one import writes, with an id of its own


@contextlib.contextmanager
def all_or_nothing(name: str) -> Iterator[dict[str, str]]:
    """Yield the tag of what this import writes, which an error or a signal deletes, or after a kill the next import.

    A registered model under another name says which import is unfinished: it comes first, and goes last.
    """
    _discard(name)
    written = {IMPORT: uuid4().hex}
    try:
        store.client().create_registered_model(temporary(name), written)
        yield written
    except BaseException as error:
        store.release_connections(error)
        store.disable_retries(error)
        with contextlib.suppress(MlflowException, OSError):  # else the next import does
            _discard(name)
        raise


def _discard(name: str) -> None:
    """Delete what an unfinished import has written, and nothing else."""
    target = store.client()
    if not (found := target.search_registered_models(f"name = '{temporary(name)}'")):
        return
    written = found[0].tags.get(IMPORT, "")
    experiments = [each.experiment_id for each in store.pages(target.search_experiments, view_type=ViewType.ALL)]
    ours = f"tags.`{IMPORT}` = '{written}'"
    runs = list(store.pages(target.search_runs, experiments, ours))
    models = list(store.pages(target.search_logged_models, experiments, ours))
    for run in runs:  # files first: on a full disk, the database needs their room
        delete_artifacts(run.info.artifact_uri, run.info.run_id)
    for model in models:
        delete_artifacts(model.artifact_location, model.model_id)
    for run in runs:
        target.delete_run(run.info.run_id)
    for model in models:
        target.delete_logged_model(model.model_id)
    target.delete_registered_model(temporary(name))


def temporary(name: str) -> str:
    """Return the name that the model has until the import of `name` is finished."""
    return f"{name}.importing"
