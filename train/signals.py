"""How a run is asked to stop: SIGINT and SIGTERM set a flag that the loop reads between two calls."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGINT or SIGTERM came. A second signal ends the process as usual."""
    requested = False
    before = {}

    def note(number, frame):
        nonlocal requested
        requested = True
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:
        before.clear()  # not in the main thread, where signals can't be handled
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
