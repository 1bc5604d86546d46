"""What happens, in which order: each flow reads like a table of contents."""

from flows.startup import set_environment

set_environment()  # before Prefect and MLflow are imported: for whoever calls a flow from Python, too
