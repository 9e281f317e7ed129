"""Steps of a chain that work at the same time, each at most one piece ahead of the next."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Generator[T]:
    """Make the next item in a thread while the last one is worked on.

    At most one item is ready or in the making beside the one that was taken. Who stops taking
    closes this iterator, as a ``for`` loop does that is left by an error: nothing more is made
    then, and nobody waits for what is.

    Args:
        items: makes the items; whatever it raises is raised where the item is taken.

    Yields:
        The same items in the same order.
    """
    maker = _Maker(items)
    maker.start()
    try:
        while True:
            made = maker.take()
            if made.error is not None:
                raise made.error
            if made.is_end:
                return
            yield made.item  # type: ignore[misc]
    finally:
        maker.stop()


class _Made(Generic[T]):
    """An item, an error, or the end."""

    __slots__ = ("error", "is_end", "item")

    def __init__(
        self, item: T | None = None, error: BaseException | None = None, *, is_end: bool = False
    ) -> None:
        self.item, self.error, self.is_end = item, error, is_end


class _Maker(threading.Thread, Generic[T]):
    """The thread that makes the items; a daemon, which no interrupted command waits for."""

    def __init__(self, items: Iterator[T]) -> None:
        super().__init__(daemon=True, name="ahead")
        self._items = items
        self._made: SimpleQueue[_Made[T]] = SimpleQueue()
        self._room = threading.Semaphore(1)
        self._stopped = threading.Event()

    def run(self) -> None:
        """Make items as long as somebody takes them."""
        try:
            self._room.acquire()
            for item in self._items:
                self._made.put(_Made(item))
                # Kept by nobody but who takes it: items are large.
                del item
                self._room.acquire()
                if self._stopped.is_set():
                    break
            self._made.put(_Made(is_end=True))
        except BaseException as error:
            self._made.put(_Made(error=error))
        finally:
            if isinstance(self._items, Generator):
                self._items.close()

    def take(self) -> _Made[T]:
        """The next item; makes room for another."""
        made = self._made.get()
        self._room.release()
        return made

    def stop(self) -> None:
        """Make nothing more."""
        self._stopped.set()
        self._room.release()
