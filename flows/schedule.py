"""A flow at the times of a schedule: served by the process that prints so, until a signal stops it."""

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import time
from concurrent.futures import wait
from typing import Any

import httpx
from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
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
RECONCILE_INTERVAL = 60  # seconds after which the slot of a run whose process died is free again


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
    runner = Runner()
    runner.add_flow(
        flow,
        name=name,
        description=f"Runs on the schedule of `python flows/{flow.name}_flow.py --cron`.",
        schedule=Cron(cron, timezone=timezone),
        parameters=to_jsonable_python(parameters),  # dataclasses as their fields, which the flow reads back
        # A run that is due while another is running is cancelled rather than queued: runs never pile up.
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )
    print(f"{flow.name}: at {cron} ({timezone}); Prefect shows it on {get_current_settings().ui_url}", flush=True)
    _run_until_signal(runner)


def _run_until_signal(runner: Runner) -> None:
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
            answered = reconciled = time.monotonic()
            while not wait([running], timeout=POLL_INTERVAL).done:
                if _api_answers():
                    answered = time.monotonic()
                    if answered > reconciled + RECONCILE_INTERVAL:
                        reconciled = answered
                        with contextlib.suppress(Exception):  # the store is in use: the next time
                            reconcile_runs()
                elif time.monotonic() > answered + PATIENCE:
                    for child in multiprocessing.active_children():
                        child.kill()  # a run that nobody would hear of
                    url = get_current_settings().api.url
                    raise OSError(f"the Prefect API at {url} is gone, so that no run begins: start this schedule again")
            running.result()
        except Stopped:
            if runner.started:
                asyncio.run_coroutine_threadsafe(runner.astop(), loop)
                wait([running])
            raise


def _api_answers() -> bool:
    """Return whether the API is there: Prefect's runner alone would wait for it for ever."""
    with contextlib.suppress(httpx.TransportError):
        httpx.get(f"{get_current_settings().api.url}/health", timeout=10)
        return True
    return False
