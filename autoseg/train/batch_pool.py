"""Light processes that make batches, and what each of them is at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, MutableSequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
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


class MakerDiedError(Exception):
    """A process that was to make a batch has died."""


class BatchPool(Generic[SpecT, BatchT]):
    """Processes that make batches of one kind.

    Each has a connection of its own, so that one that is killed in the middle of a batch, or of
    handing it over, holds up nobody. Each notes which sample it is at where this process can
    read it, so that the cases in question are known.

    Args:
        make: makes a batch from ``spec``, epoch, step and a callback that is to be told the
            number of each sample; importable.
        spec: what batches are made from.
        size: number of processes, which are started when they are needed.

    Attributes:
        size: number of processes.
    """

    def __init__(self, make: Make[SpecT, BatchT], spec: SpecT, size: int) -> None:
        self.size = size
        self._make, self._spec = make, spec
        self._context = multiprocessing.get_context("spawn")
        # Epoch and sample of each process.
        self._notes: MutableSequence[int] = self._context.RawArray("q", [_IDLE] * (2 * size))
        self._makers: list[_Maker[BatchT]] = []

    def submit(self, epoch: int, step: int) -> Future[BatchT]:
        """Ask for a batch.

        Returns:
            The batch to come; its ``result`` raises ``MakerDiedError`` if the process that was
            to make it has died.
        """
        if len(self._makers) < self.size and all(maker.is_busy for maker in self._makers):
            place = 2 * len(self._makers)
            work = (self._make, self._spec, self._notes, place)
            with interrupts_held_off(), one_thread_each():
                self._makers.append(_Maker(self._context, work))
        return min(self._makers, key=lambda maker: maker.num_waiting).ask(epoch, step)

    def in_the_making(self) -> list[tuple[int, int]]:
        """Epoch and number of the sample that each process is at, or was when it ended."""
        pairs = zip(self._notes[::2], self._notes[1::2], strict=True)
        return [(epoch, index) for epoch, index in pairs if index != _IDLE]

    def cause_of_death(self) -> str:
        """How the first process that died ended, in a few words; to be asked after ``close``."""
        codes = (maker.exit_code for maker in self._makers)
        code = next((code for code in codes if code is not None), 0)
        if code == -_SIGKILL:
            return "was killed (SIGKILL; out of memory?)"
        return f"died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def close(self) -> None:
        """End the processes."""
        for maker in self._makers:
            maker.end()


class _Maker(Generic[BatchT]):
    """A process, what it was asked for, and a thread that listens to it.

    Attributes:
        exit_code: of a process that died by itself, known once ``end`` was called; else None.
    """

    def __init__(self, context: SpawnContext, work: tuple[Any, ...]) -> None:
        self.exit_code: int | None = None
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *work), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        self._waiting: deque[Future[BatchT]] = deque()
        self._has_died = False
        self._guard = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def num_waiting(self) -> int:
        """Batches it was asked for and has not handed over."""
        return len(self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether it has something to do, or will never do anything again."""
        return self.num_waiting > 0 or self._has_died

    def ask(self, epoch: int, step: int) -> Future[BatchT]:
        """Ask for a batch; they come in the order in which they were asked for."""
        future: Future[BatchT] = Future()
        with self._guard:
            if self._has_died:
                future.set_exception(MakerDiedError())
                return future
            self._waiting.append(future)
        with suppress(OSError):  # it has died: the listener finds out
            self._connection.send((epoch, step))
        return future

    def end(self) -> None:
        """End the process, and wait until it is gone."""
        died = self._has_died
        if not died:
            self._process.terminate()
        self._process.join()
        self._listener.join()
        self._connection.close()
        self.exit_code = self._process.exitcode if died else None

    def _listen(self) -> None:
        try:
            while True:
                batch, error = self._connection.recv()
                future = self._waiting.popleft()
                if not future.set_running_or_notify_cancel():
                    continue
                if error is None:
                    future.set_result(batch)
                else:
                    future.set_exception(error)
        except (EOFError, OSError):
            with self._guard:
                self._has_died = True
            for future in self._waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(MakerDiedError())


def _serve(
    connection: Connection,
    make: Make[SpecT, BatchT],
    spec: SpecT,
    notes: MutableSequence[int],
    place: int,
) -> None:
    """Make what is asked for: the life of a process."""
    end_with_parent()

    def note(index: int) -> None:
        notes[place + 1] = index

    with suppress(EOFError, OSError):  # nobody is there to ask any more
        while True:
            epoch, step = connection.recv()
            notes[place] = epoch
            answer: tuple[BatchT | None, Exception | None]
            try:
                answer = make(spec, epoch, step, note), None
            except Exception as error:  # it is raised where the batch was asked for
                error.add_note("".join(traceback.format_exception(error)))
                answer = None, error
            notes[place + 1] = _IDLE
            connection.send(answer)


def end_with_parent() -> None:
    """In a worker: see to it that it does not outlive its parent, even one that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@contextmanager
def one_thread_each() -> Iterator[None]:
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
def interrupts_held_off() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal, but only the parent knows what to save."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which lets them through when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
