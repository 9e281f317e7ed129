"""Ctrl-C and SIGTERM as something to look at between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible(then: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event while the block runs.

    Only the main thread can: elsewhere the event is never set.

    Args:
        then: called by every signal after the event is set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(*_: object) -> None:
        event.set()
        if then is not None:
            then()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in signals]
    try:
        yield event
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
