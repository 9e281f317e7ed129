"""What processes use of the machine: processor time and memory, as the system's files tell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_BUSY = (1, 2, 3, 6, 7, 8)  # user, nice, system, irq, softirq, steal; neither idle nor iowait


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorTime:
    """Seconds of processors since some moment in the past.

    Attributes:
        cores: number of cores that this process may be put on.
        busy_s: how long these were busy, added up.
        own_s: how long some processes kept cores busy, added up.
    """

    cores: int
    busy_s: float
    own_s: float


def processor_time(pids: Iterable[int], *, root: Path = Path("/")) -> ProcessorTime | None:
    """How busy the cores have been so far, and with what; None where the system does not tell.

    Args:
        pids: the processes that count as one's own.
        root: where ``proc`` is found.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = [line.split() for line in _read(root / "proc/stat").splitlines()]
    cores = [words for words in lines if words and words[0] in allowed and len(words) > max(_BUSY)]
    if not cores:
        return None
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    busy = sum(int(words[column]) for words in cores for column in _BUSY)
    own = sum(_ticks(root / f"proc/{pid}/stat") for pid in pids)
    return ProcessorTime(cores=len(cores), busy_s=busy / ticks_per_s, own_s=own / ticks_per_s)


def queued_s(*, root: Path = Path("/")) -> float:
    """Seconds this thread has waited for a core so far; 0 where the system does not tell.

    Args:
        root: where ``proc`` is found.
    """
    words = _read(root / "proc/thread-self/schedstat").split()
    return int(words[1]) / 1e9 if len(words) == 3 else 0.0


def resident_bytes(pids: Iterable[int], *, root: Path = Path("/")) -> int | None:
    """Memory that processes hold, in bytes; None where the system does not tell.

    Args:
        pids: the processes.
        root: where ``proc`` is found.
    """
    texts = [_read(root / f"proc/{pid}/status") for pid in pids]
    found = [re.search(r"^VmRSS:\s*(\d+) kB", text, re.MULTILINE) for text in texts]
    if not all(found):
        return None
    return sum(1024 * int(match[1]) for match in found if match is not None)


def _ticks(file: Path) -> int:
    """Processor time of a process with all its threads; 0 if it is gone."""
    words = _read(file).rpartition(")")[2].split()  # its name may have blanks and brackets
    return sum(map(int, words[11:13]))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
