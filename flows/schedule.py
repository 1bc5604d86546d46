"""A flow at the times of a schedule: served by the process that prints so, until a signal stops it."""

import asyncio
import contextlib
import multiprocessing
import signal
import socket
import threading
import time
from concurrent.futures import wait
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import httpx
from prefect import Flow, get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import get_current_settings
from pydantic_core import to_jsonable_python

from flows.cron import next_run
from mnist_pipeline.process import Stopped, stoppable
from mnist_pipeline.tracking.processes import try_lock
from tasks.track import reconcile_runs

POLL_INTERVAL = 5  # seconds between two questions whether the API is there
PATIENCE = 60  # seconds that it may be away, as while it is started again
IDLE = timedelta(seconds=60)  # since a runner last asked for runs: it is gone
CHECK_INTERVAL = 60  # seconds between two looks for runs whose process died, and for the schedule itself


def serve(flow: Flow[..., Any], cron: str, timezone: str, *, name: str, parameters: dict[str, Any]) -> None:
    """Serve `flow` with `parameters`, and run it at the times of `cron`, until a signal raises `Stopped`.

    Raises `ValueError` if another process does: one deployment cannot have the times and parameters of both.
    """
    with try_lock(get_current_settings().home, name) as is_free:
        if not is_free:
            raise ValueError(
                f"this schedule ({name}) is running already, in another terminal or process: stop it first"
            )
        _serve(flow, cron, timezone, name=name, parameters=parameters)


def _serve(flow: Flow[..., Any], cron: str, timezone: str, *, name: str, parameters: dict[str, Any]) -> None:
    print(f"Next run at {next_run(cron, timezone):%Y-%m-%d %H:%M %Z}", flush=True)
    reconcile_runs()  # one that was killed would keep the only slot of the schedule, so that no run begins
    home = get_current_settings().home
    description = f"`python flows/{flow.name}_flow.py --cron` on {socket.gethostname()}, with the Prefect home {home}"
    _refuse_another(f"{flow.name}/{name}", description)
    runner = Runner()
    deployment = runner.add_flow(
        flow,
        name=name,
        description=description,
        schedule=Cron(cron, timezone=timezone),
        parameters=to_jsonable_python(parameters),  # dataclasses as their fields, which the flow reads back
        # A run that is due while another is running is cancelled rather than queued: runs never pile up.
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )
    print(f"{flow.name}: at {cron} ({timezone}); Prefect shows it on {get_current_settings().ui_url}", flush=True)
    assert isinstance(deployment, UUID)  # rather than a coroutine, as in an event loop
    _run_until_signal(runner, deployment)


def _refuse_another(name: str, description: str) -> None:
    """Raise `ValueError` if a process of another machine or checkout serves the deployment `name` of the same API."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(name)
        except ObjectNotFound:
            return
    is_served = found.last_polled and abs(datetime.now(UTC) - found.last_polled) < IDLE  # its status may be old
    if is_served and found.description != description:
        raise ValueError(
            f"Prefect runs this schedule ({name}) already: {found.description}; stop it there first, and "
            "wait a minute after it has ended"
        )


def _run_until_signal(runner: Runner, deployment: UUID) -> None:
    """Start `runner`; when a signal comes, cancel its runs and pause its schedule.

    In a thread of its own, as in the main one it would replace the handler of SIGTERM by one that waits for its runs.
    """
    loop = asyncio.new_event_loop()

    def run_loop() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # and so of its runs: a Ctrl-C is for this process
        loop.run_forever()

    threading.Thread(target=run_loop, daemon=True).start()
    running = asyncio.run_coroutine_threadsafe(runner.start(), loop)
    with stoppable():
        try:
            answered = checked = time.monotonic()
            while not wait([running], timeout=POLL_INTERVAL).done:
                if api_answers():
                    answered = time.monotonic()
                    if answered > checked + CHECK_INTERVAL:
                        checked = answered
                        with contextlib.suppress(Exception):  # the store is in use: the next time
                            reconcile_runs()
                        if not _is_known(deployment):
                            _give_up("no longer has this schedule: it was deleted, or the server has a new database")
                elif time.monotonic() > answered + PATIENCE:
                    _give_up("is gone, so that no run begins")
            running.result()
        except Stopped:
            if runner.started:
                asyncio.run_coroutine_threadsafe(runner.astop(), loop)
                wait([running])
            raise


def _give_up(reason: str) -> NoReturn:
    for child in multiprocessing.active_children():
        child.kill()  # a run that nobody would hear of
    raise OSError(f"the Prefect API at {get_current_settings().api.url} {reason}; start this schedule again")


def _is_known(deployment: UUID) -> bool:
    """Return whether the API has the deployment: Prefect's runner alone would wait for its runs for ever."""
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        try:
            client.read_deployment(deployment)
        except ObjectNotFound:
            return False
    return True


def api_answers() -> bool:
    """Return whether the API is there: Prefect's runner alone would wait for it for ever."""
    with contextlib.suppress(httpx.TransportError):
        answer = httpx.get(f"{get_current_settings().api.url}/health", timeout=10)
        return not answer.is_server_error  # as a proxy's is, whose server is gone
    return False
