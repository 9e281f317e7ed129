"""Numbers in sentences, names in commands."""

from __future__ import annotations

from shlex import quote


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``"1 case"`` or ``"208 cases"``.

    Args:
        number: how many.
        noun: one of them.
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def flags(*, plan: str = "default", run: str = "default") -> str:
    """The options by which a command finds a plan and a run, such as ``" --run long"``.

    Args:
        plan: its name; the default one needs no option.
        run: its name, likewise.
    """
    named = (("plan", plan), ("run", run))
    return "".join(f" --{kind} {quote(name)}" for kind, name in named if name != "default")


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
