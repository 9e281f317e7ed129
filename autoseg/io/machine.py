"""What the machine grants this process: cores and memory, as the system's files tell."""

from __future__ import annotations

import math
import os
from pathlib import Path

import joblib

UNKNOWN_MEMORY_BYTES = 4 * 2**30
"""What is assumed available where the system does not tell."""


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
