"""How the flows' parameters are read where they come as JSON: from a schedule, a deployment or Prefect's UI."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from mnist_pipeline.config import TrainConfig, config_from


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return config_from(value | ({"hidden": tuple(value["hidden"])} if "hidden" in value else {}))


Config = Annotated[TrainConfig, BeforeValidator(_from_json)]
