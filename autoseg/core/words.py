"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``"1 case"`` or ``"208 cases"``.

    Args:
        number: how many.
        noun: one of them.
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size_in_words(num_bytes: int) -> str:
    """A size on disk or in memory, such as ``"31 MB"`` or ``"1.2 GB"``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= 0.9995 * size:
            number = num_bytes / size
            return f"{number:.{0 if number >= 10 else 1}f} {unit}"
    return f"{num_bytes} bytes"


def duration(seconds: float) -> str:
    """A length of time as people say it, such as ``"35 min"``."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
