"""The times of a schedule."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from mnist_pipeline.config import FieldError, check


@dataclass(frozen=True, kw_only=True)
class Times:
    """The times at which a command that stays up runs its flow. Raises `FieldError` if they are none."""

    cron: str | None = None
    """Stay up, and run at these times: "0 3 * * *" is 3 o'clock every night."""
    timezone: str = "UTC"
    """Time zone of these times, such as Europe/Berlin."""

    def __post_init__(self) -> None:
        if self.cron is None:
            check(self.timezone == "UTC", "timezone", self.timezone, "left out without cron")
            return
        next_run(self.cron, self.timezone)
        if len(self.cron.split()) > 5:  # people who write six put the seconds first, where Prefect takes them last
            raise FieldError("cron", f"must be minute, hour, day, month and weekday, without seconds, not {self.cron}")


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
