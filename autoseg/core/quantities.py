"""Sizes and lengths of time as users write them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from autoseg.errors import AutosegError

_DECIMAL_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BINARY_UNITS = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_TIME_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_bytes(text: str, option: str) -> int:
    """Read a size such as ``8GB``, ``8000MB`` or ``8GiB``, in bytes.

    A GB is 10**9 bytes, a GiB 2**30.

    Args:
        text: what was written.
        option: what it was written for, for the message.

    Raises:
        AutosegError: if it is none.
    """
    units = _DECIMAL_UNITS | _BINARY_UNITS
    return round(_quantity(text, units, f"{option}: '{text}' is no size", "8GB or 8000MB"))


def parse_seconds(text: str, option: str) -> float:
    """Read a length of time such as ``90s``, ``20m`` or ``1.5h``, in seconds.

    Args:
        text: what was written.
        option: what it was written for, for the message.

    Raises:
        AutosegError: if it is none.
    """
    return _quantity(text, _TIME_UNITS, f"{option}: '{text}' is no length of time", "20m or 2h")


def _quantity(text: str, units: Mapping[str, float], finding: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match is None or unit not in units or float(match[1]) <= 0:
        raise AutosegError(finding, remedy=f"write for example {example}")
    return float(match[1]) * units[unit]
