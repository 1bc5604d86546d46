"""Clocks that jump, and nights with an hour twice or not at all: a schedule's run comes once, not never or twice."""

from datetime import UTC, datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

import anyio
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import CronSchedule as ServedSchedule

from flows.train_flow import Trained
from mnist_pipeline.registry import Entry, Registry

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = {
    "the hour that is left out": ("2027-03-27", "30 2 * * *", "2027-03-28"),
    "the hour that comes twice": ("2027-10-30", "30 2 * * *", "2027-10-31"),
    "three in the morning, in spring": ("2027-03-27", "0 3 * * *", "2027-03-28"),
    "three in the morning, in autumn": ("2027-10-30", "0 3 * * *", "2027-10-31"),
}


@pytest.mark.parametrize("night", NIGHTS)
def test_a_run_comes_once_in_a_night_in_which_the_clocks_change(night: str) -> None:
    start, cron, day = NIGHTS[night]
    schedule = ServedSchedule(cron=cron, timezone="Europe/Berlin")
    dates = anyio.run(schedule.get_dates, 4, datetime.fromisoformat(start).replace(tzinfo=BERLIN))
    days = [date.astimezone(BERLIN).date().isoformat() for date in dates]
    assert days.count(day) == 1
    assert len({date.astimezone(UTC) for date in dates}) == len(set(days)) == 4


def test_the_server_plans_the_same_dates(prefect_api: str) -> None:
    """Through the API of a real server, asked twice: one run a day, whatever the clocks do."""

    @flow(name=f"clock-{uuid4().hex[:8]}")
    def nothing() -> None: ...

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(nothing)
        schedule = CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin")
        deployment = client.create_deployment(
            flow_id, "clock", schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)]
        )
        body = {"start_time": "2027-03-20T00:00:00Z", "end_time": "2027-04-05T00:00:00Z", "min_time": 16 * 24 * 3600}
        client._client.post(f"/deployments/{deployment}/schedule", json=body).raise_for_status()
        client._client.post(f"/deployments/{deployment}/schedule", json=body).raise_for_status()  # asked again
        answer = client._client.post(
            "/flow_runs/filter", json={"deployments": {"id": {"any_": [str(deployment)]}}, "limit": 200}
        ).json()
    planned = [datetime.fromisoformat(run["expected_start_time"]).astimezone(BERLIN) for run in answer]
    days = sorted(date.date().isoformat() for date in planned)
    assert days == sorted(set(days))
    assert {"2027-03-27", "2027-03-28", "2027-03-29"} <= set(days)


def test_a_clock_that_is_set_back_moves_no_champion_and_loses_no_entry(trained: Trained) -> None:
    registry, client = Registry("clock"), MlflowClient()
    source = client.get_model_version("mnist-mlp", str(trained.model.number))
    client.create_registered_model(registry.name)
    for _ in range(2):
        client.create_model_version(registry.name, str(source.source), model_id=source.model_id)
    future = Entry(
        version=1,
        action="promoted",
        champion_before=None,
        champion=1,
        reasons=("",),
        time="2099-01-01T00:00:00.000000Z",
    )
    registry._promote(future)
    registry.promote_by_hand(2, reason="the clock was set back since")
    assert registry.champion == 2
    registry.roll_back(reason="it was")
    assert registry.champion == 1
    assert len(registry.history()) == 3
