"""Process pools: how many workers a machine carries, and what became of every case.

A case that raises is reported and the others go on. A worker that dies (killed for memory,
crashed in native code) leaves no case unaccounted for: the pool never holds more cases than it
has workers, so those in flight are the suspects; they are tried again, in the end one at a
time, and the one that takes its worker with it is named.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import joblib
from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)

WORKER_BYTES = 200 * 2**20
"""Memory a worker needs before it has read a case."""

MEMORY_SHARE = 0.8
"""Share of the available memory that workers may fill."""

UNKNOWN_MEMORY_BYTES = 4 * 2**30
"""What is assumed available where the system does not tell."""

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
) -> list[Outcome[R]]:
    """Apply a function to every case, in processes, whatever happens to single ones.

    Args:
        function: what to do with a case; importable or picklable by value.
        items: name and argument of each case.
        workers: number of processes; with 1 or fewer the cases run in this process.
        progress: called in this process whenever a case is finished.

    Returns:
        One outcome per item, in their order. A case whose worker was killed even when it ran
        alone has an ``error`` that says so.
    """
    outcomes: dict[int, Outcome[R]] = {}
    for index, outcome in _finish(function, items, workers):
        outcomes[index] = outcome
        if outcome.trace is not None:
            logger.debug("%s: %s", outcome.name, outcome.trace)
        progress(len(outcomes), len(items), outcome.name)
    return [outcomes[index] for index in range(len(items))]


def num_workers(requested: int | None, bytes_per_case: int = 0, *, root: Path = Path("/")) -> int:
    """How many workers to start.

    Args:
        requested: what the user asked for, which is obeyed; None for as many as cores and
            memory carry.
        bytes_per_case: memory a worker needs at its peak beyond ``WORKER_BYTES``.
        root: where ``proc`` and ``sys`` are found.

    Returns:
        At least 1.

    Raises:
        ValueError: if a negative number was requested.
    """
    if requested is not None:
        if requested < 0:
            raise ValueError(f"the number of workers cannot be negative, got {requested}")
        return max(1, requested)
    budget = MEMORY_SHARE * available_memory_bytes(root=root)
    fitting = int(budget // (WORKER_BYTES + bytes_per_case))
    return max(1, min(available_cores(root=root), fitting))


def available_cores(*, root: Path = Path("/")) -> int:
    """Cores this process may use: affinity and the CPU quota of its control groups.

    Args:
        root: where ``proc`` and ``sys`` are found.

    Returns:
        At least 1; a quota of one and a half cores counts as two.
    """
    quotas = [quota for folder in _cgroups(root, "cpu") if (quota := _cpu_quota(folder))]
    return max(1, min(joblib.cpu_count(), *(math.ceil(quota) for quota in quotas), 2**31))


def available_memory_bytes(*, root: Path = Path("/")) -> int:
    """Memory that can still be taken: the machine's, within the limits of the control groups.

    Args:
        root: where ``proc`` and ``sys`` are found.

    Returns:
        Bytes, at least 0.
    """
    rooms = (_memory_room(folder) for folder in _cgroups(root, "memory"))
    known = [room for room in rooms if room is not None]
    return max(0, min(_machine_memory(root / "proc/meminfo"), *known, 2**62))


# Running the cases ---------------------------------------------------------------------------


def _finish(
    function: Callable[[T], R], items: Sequence[tuple[str, T]], workers: int
) -> Iterator[tuple[int, Outcome[R]]]:
    """Yield index and outcome of every case as it is settled."""
    if workers <= 1:
        for index, (name, item) in enumerate(items):
            yield index, _attempt(function, name, item)
        return
    waiting = deque(range(len(items)))
    suspects: deque[int] = deque()
    while waiting or suspects:
        if not waiting:
            waiting, suspects, workers = suspects, waiting, 1
        size = min(workers, len(waiting))
        held, death = yield from _run_pool(function, items, waiting, size)
        if death is None:
            continue
        names = ", ".join(items[index][0] for index in held)
        if size == 1:
            yield from ((i, Outcome(name=items[i][0], value=None, error=death)) for i in held)
            continue
        suspects.extend(held)
        workers = max(1, size // 2)
        logger.warning("%s while at %s; going on with fewer workers (%d)", death, names, workers)


def _run_pool(
    function: Callable[[T], R], items: Sequence[tuple[str, T]], waiting: deque[int], size: int
) -> Generator[tuple[int, Outcome[R]], None, tuple[list[int], str | None]]:
    """Work off the queue with one pool until it is empty or a worker dies.

    Yields index and outcome of every finished case. Returns the cases in flight when a worker
    died and how it died; none and None if all went well.
    """
    flying: dict[Future[Outcome[R]], int] = {}
    with _pool(size) as pool:
        while waiting or flying:
            while waiting and len(flying) < size:
                index = waiting.popleft()
                flying[_submit(pool, function, *items[index])] = index
            landed, _ = wait(flying, return_when=FIRST_COMPLETED)
            crash: BrokenProcessPool | None = None
            for future in landed:
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    crash = error
                    continue
                index = flying.pop(future)
                yield index, _settle(future, items[index][0])
            if crash is not None:
                return sorted(flying.values()), _cause_of_death(crash)
    return [], None


@contextmanager
def _pool(size: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are gone when the block is left, however it is left."""
    pool = ProcessPoolExecutor(
        max_workers=size, env=_ONE_THREAD, initializer=_follow, initargs=(os.getpid(),)
    )
    with warnings.catch_warnings():
        # Where psutil is installed, loky renews workers that grew and tells every time.
        warnings.filterwarnings("ignore", message="A worker stopped", category=UserWarning)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=True, kill_workers=True)
            raise
        pool.shutdown(wait=True)


def _follow(parent: int) -> None:
    """End this worker soon after its parent: one that was killed could not say goodbye."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[T], R], name: str, item: T
) -> Future[Outcome[R]]:
    try:
        return pool.submit(_attempt, function, name, item)
    except BrokenProcessPool as error:  # between two cases
        future: Future[Outcome[R]] = Future()
        future.set_exception(error)
        return future


def _attempt(function: Callable[[T], R], name: str, item: T) -> Outcome[R]:
    """Run one case; in the worker."""
    try:
        return Outcome(name=name, value=function(item))
    except Exception as error:  # one case must not end the others
        return _failed(name, error)


def _settle(future: Future[Outcome[R]], name: str) -> Outcome[R]:
    """The outcome of a finished future; a value that cannot be sent back is an error."""
    error = future.exception()
    return future.result() if error is None else _failed(name, error)


def _failed(name: str, error: BaseException) -> Outcome[Any]:
    if isinstance(error, AutosegError):
        return Outcome(name=name, value=None, error=str(error))
    message = " ".join(f"{type(error).__name__}: {error}".split())
    trace = "".join(traceback.format_exception(error))
    return Outcome(name=name, value=None, error=message, trace=trace)


def _cause_of_death(error: BaseException) -> str:
    """How a worker ended, in a few words; loky tells the exit codes in its message only."""
    codes = re.search(r"exit codes of the workers are \{(.*)\}", str(error))
    if codes is None:
        return " ".join(f"worker failed: {error}".split())
    if "SIGKILL" in codes[1]:
        return "worker was killed (SIGKILL; out of memory?)"
    return f"worker died ({codes[1]})"


# What the machine has ------------------------------------------------------------------------


def _cgroups(root: Path, controller: str) -> list[Path]:
    """Folders of the control groups of this process, outermost last, of version 1 and 2.

    A container sees its own group at the mount point while ``/proc`` may name the path outside,
    so every ancestor that exists counts: a limit holds for all below it.
    """
    folders: list[Path] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        mounts = ("", "unified") if not controllers else (controller,)
        if controllers and controller not in controllers.split(","):
            continue
        for mount in mounts:
            top = root / "sys/fs/cgroup" / mount
            group = top / path.strip("/")
            folders += [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _cpu_quota(folder: Path) -> float | None:
    """Cores a control group may keep busy; None without a limit."""
    text = _read(folder / "cpu.max") or " ".join(
        _read(folder / f"cpu.cfs_{part}_us") for part in ("quota", "period")
    )
    numbers = [int(word) for word in text.split() if word.isdigit()]
    return numbers[0] / numbers[1] if len(numbers) == 2 and min(numbers) > 0 else None


def _memory_room(folder: Path) -> int | None:
    """Bytes left in a control group; None without a limit."""
    names = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for limit_name, usage_name, cache_name in names:
        limit, usage = _read(folder / limit_name), _read(folder / usage_name)
        if limit.isdigit() and usage.isdigit():
            # The page cache is counted as used but given back on demand.
            cache = _field(_read(folder / "memory.stat"), cache_name) or 0
            return int(limit) - int(usage) + cache
    return None


def _machine_memory(meminfo: Path) -> int:
    """Available memory of the machine, bytes."""
    kibibytes = _field(_read(meminfo), "MemAvailable:")
    if kibibytes is not None:
        return kibibytes * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system has sysconf or these names
        return UNKNOWN_MEMORY_BYTES


def _field(text: str, name: str) -> int | None:
    """The number that follows a name at the start of a line."""
    for line in text.splitlines():
        first, *rest = line.split() or [""]
        if first == name and rest:
            return int(rest[0])
    return None


def _read(path: Path) -> str:
    """The stripped text of a small system file; empty where there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
