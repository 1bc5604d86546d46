"""The times of a schedule."""

import asyncio
from datetime import datetime

from mnist_pipeline.config import FieldError, check


def check_cron(cron: str, timezone: str) -> None:
    """Raise `FieldError` if `cron` is not the times of a schedule."""
    next_run(cron, timezone)
    if len(cron.split()) > 5:  # people who write six put the seconds first, where Prefect takes them last
        raise FieldError("cron", f"must be minute, hour, day, month and weekday, without seconds, not {cron}")


def next_run(cron: str, timezone: str) -> datetime:
    """Return when a schedule runs next. Raises `FieldError` if `cron` is not the times of one."""
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    check(timezone != "", "timezone", "nothing", "a name such as Europe/Berlin")
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        (first, *_) = error.errors()
        problem = first["msg"].removeprefix("Value error, ")
        raise FieldError(str(first["loc"][0]), f"cannot be used: {problem}") from None
    from prefect.server.schemas import schedules  # the client's knows no dates

    try:
        (soonest, *_) = asyncio.run(schedules.CronSchedule(cron=cron, timezone=timezone).get_dates(1))
        return soonest
    except ValueError:
        raise FieldError("cron", f"must be times that come, which {cron} does not") from None
