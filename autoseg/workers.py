"""Process pools: how many workers a machine carries, and what became of every case.

A case that raises is reported and the others go on. Every worker holds one case at a time, so
when one dies (killed for memory, crashed in native code) its case is known and the other
workers do not notice. That case is tried again at the end, alone; if it takes its worker with
it once more it is named.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from joblib.externals.loky.backend.process import LokyProcess
from joblib.externals.loky.backend.reduction import dumps

from autoseg.core.progress import Progress, VoxelPace, silent
from autoseg.core.words import counted
from autoseg.errors import AutosegError
from autoseg.io.machine import available_cores, available_memory_bytes

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)

WORKER_BYTES = 200 * 2**20
"""Memory a worker needs before it has read a case."""

MEMORY_SHARE = 0.8
"""Share of the available memory that workers may fill."""

_PR_SET_PDEATHSIG = 1
_KILLED = "worker was killed (SIGKILL; out of memory?)"
_OUT_OF_MEMORY = "make room, or use a machine with more memory"

# The pool is parallel already: libraries that start a thread per core on top would fight for them.
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "BLOSC_NTHREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    ),
    "1",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[R]):
    """What became of one case.

    Attributes:
        name: the case.
        value: what the function returned; None if it failed.
        error: why it failed, in one line; None if it did not.
        trace: traceback of an error nobody foresaw; None otherwise.
    """

    name: str
    value: R | None
    error: str | None = None
    trace: str | None = None


def map_cases(
    function: Callable[[T], R],
    items: Sequence[tuple[str, T]],
    workers: int,
    progress: Progress = silent,
    voxels: Sequence[int] | None = None,
) -> list[Outcome[R]]:
    """Apply a function to every case, in processes, whatever happens to single ones.

    Args:
        function: what to do with a case; importable or picklable by value.
        items: name and argument of each case, in the order in which they are begun.
        workers: number of processes; with 0 the cases run in this process, which then dies with
            a case that is killed.
        progress: called in this process whenever a case is finished.
        voxels: size of each case, where they differ: progress is then told the share of the
            voxels that is done, and voxels per second in its note.

    Returns:
        One outcome per item, in their order. A case whose worker was killed even when it ran
        alone has an ``error`` that says so.

    Raises:
        AutosegError: if not even one process can be started.
    """
    outcomes: dict[int, Outcome[R]] = {}
    pace = None if voxels is None else VoxelPace(voxels)
    if pace is not None:
        progress(0, len(items), share=0.0)
    with closing(_finish(function, items, workers)) as settled:
        for index, outcome in settled:
            outcomes[index] = outcome
            if outcome.trace is not None:
                logger.debug("%s: %s", outcome.name, outcome.trace)
            if pace is None:
                progress(len(outcomes), len(items), outcome.name)
            else:
                pace.count(index, made=outcome.error is None)
                progress(len(outcomes), len(items), pace.note(outcome.name), share=pace.share)
    return [outcomes[index] for index in range(len(items))]


def num_workers(requested: int | None, bytes_per_case: int = 0, *, root: Path = Path("/")) -> int:
    """How many workers to start.

    Args:
        requested: what the user asked for, which is obeyed: 0 for none, all is done in this
            process; None for as many as cores and memory carry.
        bytes_per_case: memory a worker needs at its peak beyond ``WORKER_BYTES``.
        root: where ``proc`` and ``sys`` are found.

    Returns:
        At least 1, unless 0 was requested.

    Raises:
        ValueError: if a negative number was requested.
    """
    if requested is not None:
        if requested < 0:
            raise ValueError(f"the number of workers cannot be negative, got {requested}")
        return requested
    budget = MEMORY_SHARE * available_memory_bytes(root=root)
    fitting = int(budget // (WORKER_BYTES + bytes_per_case))
    return max(1, min(available_cores(root=root), fitting))


def _finish(
    function: Callable[[T], R], items: Sequence[tuple[str, T]], workers: int
) -> Generator[tuple[int, Outcome[R]], None, None]:
    """Yield index and outcome of every case as it is settled."""
    if workers < 1:
        for index, (name, item) in enumerate(items):
            yield index, _attempt(function, name, item)
        return
    team = _Team(function, items, workers)
    try:
        while team.hand_out():
            yield from team.collect()
    finally:
        team.dissolve()


class _Team(Generic[T, R]):
    """Workers and the cases that are still to be done."""

    def __init__(
        self, function: Callable[[T], R], items: Sequence[tuple[str, T]], size: int
    ) -> None:
        self._function = function
        self._items = items
        self._size = min(size, len(items))
        self._waiting = deque(range(len(items)))
        self._suspects: deque[int] = deque()
        self._workers: list[_Worker] = []

    def hand_out(self) -> bool:
        """Give a case to every idle worker; returns whether any are being worked on."""
        if not self._waiting and not self._busy():
            self._waiting, self._suspects, self._size = self._suspects, deque(), 1
        idle = [worker for worker in self._workers if worker.case is None]
        while idle and (len(self._workers) > self._size or not self._waiting):
            worker = idle.pop()
            self._workers.remove(worker)
            worker.dismiss()
        while self._waiting and (idle or len(self._workers) < self._size):
            if not idle and not self._hire(idle):
                break
            index = self._waiting.popleft()
            name, item = self._items[index]
            alone = self._size == len(self._workers) == 1
            idle.pop().begin(index, self._function, name, item, alone=alone)
        return bool(self._busy())

    def collect(self) -> Iterator[tuple[int, Outcome[R]]]:
        """Wait until a worker has finished or died; yield index and outcome of what is settled."""
        busy = self._busy()
        heard = wait([worker.connection for worker in busy])
        for worker in [worker for worker in busy if worker.connection in heard]:
            index, name = worker.end()
            try:
                answer, short_of_memory = worker.connection.recv()
            except (EOFError, OSError):
                self._workers.remove(worker)
                death = worker.bury()
                if worker.alone:
                    yield index, Outcome(name=name, value=None, error=_without_company(death))
                else:
                    self._suspect(index, death)
                continue
            if short_of_memory and not worker.alone:
                self._suspect(index, "out of memory")
            else:
                yield index, pickle.loads(answer)

    def dissolve(self) -> None:
        """End all workers, whatever they are at."""
        for worker in self._workers:
            worker.kill()

    def _hire(self, idle: list[_Worker]) -> bool:
        """Start one more worker; where the system allows no more, go on with those there are."""
        try:
            worker = _Worker()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if not self._workers:
                raise AutosegError(
                    f"no worker can be started ({reason})",
                    remedy="end other programs, or go without: --workers 0",
                ) from error
            self._size = len(self._workers)
            logger.warning(
                "no more than %s can be started (%s)", counted(self._size, "worker"), reason
            )
            return False
        self._workers.append(worker)
        idle.append(worker)
        return True

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.case is not None]

    def _suspect(self, index: int, reason: str) -> None:
        """Put a case aside that failed in company, and go on with fewer."""
        self._suspects.append(index)
        self._size = max(1, self._size - 1)
        logger.warning(
            "%s: %s; going on with fewer workers (%d), then the case again, alone "
            "(fewer from the start: --workers %d)",
            *(self._items[index][0], reason, self._size, self._size),
        )


class _Worker:
    """A process that works on one case at a time."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.case: tuple[int, str] | None = None
        self.alone = False
        self._process = LokyProcess(
            target=_serve, args=(theirs, os.getpid()), env=_ONE_THREAD, daemon=True
        )
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def begin(
        self, index: int, function: Callable[[T], R], name: str, item: T, *, alone: bool
    ) -> None:
        """Send a case; a worker that died since the last is found out when it is waited for."""
        self.case, self.alone = (index, name), alone
        with suppress(OSError):
            self.connection.send((name, bytes(dumps((function, item)))))

    def end(self) -> tuple[int, str]:
        """Index and name of the case it was at; it has none from now on."""
        assert self.case is not None
        case, self.case = self.case, None
        return case

    def dismiss(self) -> None:
        """Let an idle worker go home."""
        self.bury()

    def kill(self) -> None:
        """End the process at once and wait until it is gone."""
        self._process.terminate()
        self.bury()

    def bury(self) -> str:
        """Wait for a dying process; returns how it ended, in a few words."""
        self.connection.close()
        self._process.join()
        code = self._process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _KILLED if how == "SIGKILL" else f"worker died ({how})"


def _serve(connection: Connection, parent: int) -> None:
    """Work on what comes until nobody is there to send more: the life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    _follow(parent)
    while True:
        try:
            name, task = connection.recv()
            connection.send(_answer(name, task))
        except (EOFError, OSError):
            os._exit(0)  # nothing here is worth the time that an orderly end takes


def _answer(name: str, task: bytes) -> tuple[bytes, bool]:
    """Run one case; returns its outcome, pickled, and whether memory was short."""
    try:
        function, item = pickle.loads(task)
        return bytes(dumps(Outcome(name=name, value=function(item)))), False
    except BaseException as error:  # one case must not end the others
        return pickle.dumps(_failed(name, error)), isinstance(error, MemoryError)


def _follow(parent: int) -> None:
    """End this worker with its parent: one that was killed could not say goodbye."""
    if sys.platform == "linux":
        # At once: the next command may already be waiting for the files this one is writing.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(function: Callable[[T], R], name: str, item: T) -> Outcome[R]:
    """Run one case in this process."""
    try:
        return Outcome(name=name, value=function(item))
    except Exception as error:  # one case must not end the others
        return _failed(name, error)


def _failed(name: str, error: BaseException) -> Outcome[Any]:
    if isinstance(error, AutosegError):
        return Outcome(name=name, value=None, error=str(error))
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError):
        message = f"out of memory: {error}; {_OUT_OF_MEMORY}"
    else:
        message = f"{type(error).__name__}: {error}"
    return Outcome(name=name, value=None, error=" ".join(message.split()), trace=trace)


def _without_company(death: str) -> str:
    """What to tell of a case whose worker died though nothing ran beside it."""
    remedy = _OUT_OF_MEMORY if death == _KILLED else "look at its files"
    return f"{death} with no case beside it; {remedy}"
