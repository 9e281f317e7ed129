"""Wall time, CPU time and memory of a command and of all processes it starts."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a command took.

    Attributes:
        wall_s: from start to end.
        cpu_s: of all its processes, user and system.
        pss_bytes: largest sum of proportional set sizes over its processes (shared pages are
            counted once).
    """

    wall_s: float
    cpu_s: float
    pss_bytes: int


def measure(
    command: Sequence[str], environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Figures:
    """Run a command that must succeed.

    Args:
        command: its words.
        environ: variables to set on top of this process's.
        cwd: where to run it.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=dict(os.environ) | dict(environ or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peak = [0]
    is_over = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, peak, is_over))
    sampler.start()
    _, errors = process.communicate()
    wall_s = time.perf_counter() - start
    is_over.set()
    sampler.join()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {errors.decode(errors='replace')[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(wall_s=wall_s, cpu_s=cpu_s, pss_bytes=peak[0])


def medians(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return Figures(
        wall_s=median(figures.wall_s for figures in rounds),
        cpu_s=median(figures.cpu_s for figures in rounds),
        pss_bytes=int(median(figures.pss_bytes for figures in rounds)),
    )


def _sample(root: int, peak: list[int], is_over: threading.Event) -> None:
    while not is_over.is_set():
        start = time.perf_counter()
        peak[0] = max(peak[0], sum(map(_pss_bytes, _tree(root))))
        # Looking costs time of its own: stay below a thirtieth of a core.
        is_over.wait(max(0.05, 30 * (time.perf_counter() - start)))


def _tree(root: int) -> list[int]:
    """A process and its descendants."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:  # it has ended
                continue
    return found


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
