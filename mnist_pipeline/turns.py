"""One at a time across machines: who wants a turn draws a number from the tracking store, which they all share.

A number is a version of a registered model that is there for this alone: the store gives each version only once. The
lowest number left has the turn, and is given back at its end. A process that is killed gives nothing back: so who has a
number shows again and again that it is alive, and who waits strikes off one that has not for long. No machine's clock
is compared with another's.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from mnist_pipeline.store import client, excusing

BEAT = 5.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without one, after which a number is struck off
POLL = 0.5  # seconds between two looks at who is next

SIGN_OF_LIFE = "sign_of_life"  # a tag of the number, which changes with each
ABOUT = "Who decides about the champion draws a number here, and gives it back: the lowest one left is at it."


@contextlib.contextmanager
def turn(queue: str) -> Iterator[None]:
    """Wait until everybody who came to that `queue` before is done, on whatever machine, and keep the others waiting.

    Raises `TimeoutError` where this process was taken for dead while it waited.
    """
    number = _draw(queue)
    over = threading.Event()
    threading.Thread(target=_show_life, args=(queue, number, over), daemon=True).start()
    try:
        _wait(queue, number)
        yield
    finally:
        over.set()
        _strike_off(queue, number)


def waiting(queue: str) -> dict[int, str]:
    """Give the numbers that are left in `queue`, each with its latest sign of life."""
    versions = client().search_model_versions(f"name = '{queue}'")
    return {int(each.version): each.tags.get(SIGN_OF_LIFE, "") for each in versions}


def _draw(queue: str) -> int:
    if not client().search_registered_models(f"name = '{queue}'"):
        with excusing("RESOURCE_ALREADY_EXISTS"):  # another machine was quicker
            client().create_registered_model(queue, description=ABOUT)
    drawn = client().create_model_version(queue, source="turn:///drawn", tags={SIGN_OF_LIFE: "0"}, await_creation_for=0)
    return int(drawn.version)


def _show_life(queue: str, number: int, over: threading.Event) -> None:
    beats = 0
    while not over.wait(BEAT):
        beats += 1
        with contextlib.suppress(Exception):  # the store is out of reach, or the number was struck off: `_wait` tells
            client().set_model_version_tag(queue, str(number), SIGN_OF_LIFE, str(beats))


def _wait(queue: str, number: int) -> None:
    ahead, sign, since = 0, "", 0.0
    while (left := waiting(queue)) and min(left) != number:
        if number not in left:
            break
        first = min(left)
        if (ahead, sign) != (first, left[first]):
            ahead, sign, since = first, left[first], time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            _strike_off(queue, first)
        time.sleep(POLL)
    if number not in left:
        raise TimeoutError(f"this machine did not reach the tracking store for {PATIENCE:.0f} s: run the same again")


def _strike_off(queue: str, number: int) -> None:
    with excusing("RESOURCE_DOES_NOT_EXIST"):
        client().delete_model_version(queue, str(number))
