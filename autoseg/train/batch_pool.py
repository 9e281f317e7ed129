"""Light processes that make batches, and what each of them is at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, MutableSequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Generic, TypeVar

SpecT = TypeVar("SpecT")
BatchT = TypeVar("BatchT")

Make = Callable[[SpecT, int, int, Callable[[int], None]], BatchT]

_IDLE = -1
_SIGKILL = 9  # which signal lacks on Windows
# Processes are parallel already: a library that starts a thread per core on top slows them down.
_ONE_THREAD: dict[str, str] = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
} | {"VECLIB_MAXIMUM_THREADS": "1"}


class BatchPool(Generic[SpecT, BatchT]):
    """Processes that make batches of one kind.

    Each notes which sample it is at where this process can read it, so that when one is killed
    the cases in question are known.

    Args:
        make: makes a batch from ``spec``, epoch, step and a callback that is to be told the
            number of each sample; importable.
        spec: what batches are made from.
        size: number of processes.

    Attributes:
        size: number of processes.
    """

    def __init__(self, make: Make[SpecT, BatchT], spec: SpecT, size: int) -> None:
        self.size = size
        self._processes: set[BaseProcess] = set()
        context = multiprocessing.get_context("spawn")
        # Epoch and sample of each process; who writes where is settled by a counter.
        self._notes: MutableSequence[int] = context.RawArray("q", [_IDLE] * (2 * size))
        self._executor = ProcessPoolExecutor(
            size,
            mp_context=context,
            initializer=_start_worker,
            initargs=(make, spec, self._notes, context.Value("i", 0)),
        )

    def submit(self, epoch: int, step: int) -> Future[BatchT]:
        """Ask for a batch.

        Raises:
            BrokenProcessPool: if a process has died; so does the future's ``result``.
        """
        others = set(multiprocessing.active_children())
        try:
            with _interrupts_held_off(), _one_thread_each():
                return self._executor.submit(_make_one, epoch, step)
        finally:
            self._processes |= set(multiprocessing.active_children()) - others

    def in_the_making(self) -> list[tuple[int, int]]:
        """Epoch and number of the sample that each process is at, or was when it ended."""
        pairs = zip(self._notes[::2], self._notes[1::2], strict=True)
        return [(epoch, index) for epoch, index in pairs if index != _IDLE]

    def cause_of_death(self) -> str:
        """How the first process that died ended, in a few words; to be asked after ``close``."""
        codes = {process.exitcode or 0 for process in self._processes}
        # The others were told to end when one had died.
        code = min(codes - {0, -signal.SIGTERM}, default=-signal.SIGTERM)
        if code == -_SIGKILL:
            return "was killed (SIGKILL; out of memory?)"
        return f"died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def close(self) -> None:
        """End the processes."""
        self._executor.shutdown(wait=True, cancel_futures=True)


_make: Callable[[int, int], object]
"""In a worker: makes one batch."""


def _start_worker(
    make: Make[SpecT, object], spec: SpecT, notes: MutableSequence[int], started: Synchronized[int]
) -> None:
    """Prepare a worker: it must not outlive its parent, even one that was killed."""
    global _make  # noqa: PLW0603 - a process of a pool has no other place to keep things
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    with started.get_lock():
        place = 2 * started.value
        started.value += 1

    def make_noting(epoch: int, step: int) -> object:
        def note(index: int) -> None:
            notes[place : place + 2] = [epoch, index]

        try:
            return make(spec, epoch, step, note)
        finally:
            notes[place + 1] = _IDLE

    _make = make_noting


def _make_one(epoch: int, step: int) -> Any:  # noqa: ANN401 - what was asked for
    return _make(epoch, step)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile use one thread; their libraries look when they are loaded."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_held_off() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal, but only the parent knows what to save."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
