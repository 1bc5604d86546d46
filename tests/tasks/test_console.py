"""What is printed of Prefect's log."""

import io
import logging
import multiprocessing
import os

import pytest

from tasks.console import Console

LOG = [
    ("prefect.flow_runs", logging.INFO, "Beginning flow run 'a' for flow 'train'"),
    ("prefect._internal.concurrency", logging.ERROR, "Service 'EventsWorker' failed to process item Event(...)"),
    ("prefect.flow_runs", logging.INFO, "View at http://127.0.0.1:4200/runs/flow-run/1"),
    ("prefect.task_runs", logging.INFO, "Epoch: 1/3, Loss: 0.112"),
    ("prefect.task_runs", logging.ERROR, "Task run failed with exception: ValueError('no')"),
    (
        "prefect.task_runs",
        logging.ERROR,
        "Finished in state Failed('Task run encountered an exception: ValueError: no')",
    ),
    ("prefect.flow_runs", logging.ERROR, "Encountered exception during execution: ValueError('no')"),
    ("prefect.flow_runs", logging.INFO, "Running hook 'notify_of_state' in response to entering state 'Failed'"),
    ("prefect.flow_runs", logging.INFO, "Hook 'notify_of_state' finished running successfully"),
    (
        "prefect.flow_runs",
        logging.INFO,
        "Finished in state Failed('Flow run encountered an exception: ValueError: no')",
    ),
]


def printed() -> list[str]:
    stream = io.StringIO()
    console = Console(stream=stream)
    for name, level, message in LOG:
        console.handle(logging.LogRecord(name, level, __file__, 1, message, (), (ValueError, ValueError("no"), None)))
    return stream.getvalue().splitlines()


def test_a_command_prints_neither_the_errors_nor_the_end_of_its_run_as_it_tells_them_itself() -> None:
    assert printed() == [LOG[0][2], LOG[3][2]]


def test_the_run_of_a_schedule_prints_how_it_ended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", object)  # as in a process that the schedule started
    assert printed() == [LOG[0][2], LOG[3][2], LOG[-1][2]]


def test_a_run_goes_on_although_nobody_reads_its_output_any_more() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", buffering=1)
    console = Console(stream=stream)
    for _ in range(2):
        console.handle(logging.LogRecord("prefect", logging.INFO, __file__, 1, "Epoch: 1/3", (), None))
    assert console.console.quiet
    with pytest.raises(BrokenPipeError):
        stream.close()
