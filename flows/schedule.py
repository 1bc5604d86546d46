"""Retraining on a schedule, for as long as the command stays up."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.schedules import Cron
from pydantic import ValidationError

from flows.process import importing
from mnist_pipeline.config import DataSource, Gate, TrainConfig


def retrain_at(cron: str, timezone: str, config: TrainConfig, source: DataSource, gate: Gate, **options: Any) -> None:
    """Serve the flow `retrain` with these parameters, and run it at the times of `cron`, until a signal comes."""
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise ValueError(f"--{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from None
    with importing(schedules=True):
        from flows.retrain_flow import retrain_flow

    retrain_flow.serve(
        name="scheduled" if source.name == "mnist" else f"scheduled-{source.name}",
        description="Retrains on the schedule of `python flows/retrain_flow.py --cron`.",
        schedule=Cron(cron, timezone=timezone),
        parameters={
            "config": asdict(config),
            "source": {
                name: str(value) if isinstance(value, Path) else value for name, value in asdict(source).items()
            },
            "gate": asdict(gate),
            **options,
        },
        # A run that comes while another is at work is cancelled rather than put off: runs never pile up.
        global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )
