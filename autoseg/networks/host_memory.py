"""Memory of the process, kept for the next step instead of given back after each."""

from __future__ import annotations

import ctypes
import platform

# Parameters of mallopt, from malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Have the process keep memory that it frees, for the rest of its life.

    The C library of Linux asks the system for every large array and gives it back when it is
    freed; the system clears each page anew, which is a fifth of the time of a training step on
    a CPU. A step asks for the same sizes as the one before, so that little is kept in vain.

    Returns:
        Whether the C library can do so; only glibc does.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    accepted = (library.mallopt(_MMAP_MAX, 0), library.mallopt(_TRIM_THRESHOLD, _NEVER))
    return all(accepted)
