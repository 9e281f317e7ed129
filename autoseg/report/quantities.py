"""Numbers as the page writes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.measures import MEASURES
from autoseg.core.metrics import Report, Summary

NOTHING = "\N{EN DASH}"
_TO = "\N{THIN SPACE}\N{EN DASH}\N{THIN SPACE}"
_MINUS = "\N{MINUS SIGN}"


def score(value: float | None, metric: str = "dice") -> str:
    """A score as tables show it: shares with three digits, lengths and volumes with two."""
    if value is None:
        return NOTHING
    if metric == "false_lesions":
        text = f"{value:.3g}"
    else:
        digits = 2 if MEASURES[metric].unit else 3
        # Adding 0 takes the sign from what is rounded to nothing.
        text = f"{round(value, digits) + 0.0:.{digits}f}"
    return text.replace("-", _MINUS)


def interval(summary: Summary, metric: str) -> str:
    """A mean's 95% interval in brackets, or nothing if there is none."""
    if summary.interval is None:
        return ""
    low, high = (score(value, metric) for value in summary.interval)
    return f"({low}{_TO}{high})"


def title(metric: str, report: Report) -> str:
    """What a metric is called, with its unit."""
    measure = MEASURES[metric]
    unit = report.length_unit if measure.unit == "length" else measure.unit
    at = ""
    if metric == "nsd" and report.tolerance is not None:
        at = f" at {report.tolerance:g} {report.length_unit}"
    return f"{measure.title}{at}{unit and f' ({unit})'}"


def plain(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never in powers of ten where it can be read."""
    if value and 1e-4 <= abs(value) < 1e6:
        text = np.format_float_positional(value, digits, unique=False, fractional=False, trim="-")
        whole = f"{value:.0f}"
        text = whole if abs(value) >= 10**digits else text
    else:
        text = f"{value:.{digits}g}"
    return text.replace("-", _MINUS)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Median and range of some numbers, such as ``"2.5 (1 - 3)"``; the number if all are equal."""
    low, middle, high = float(min(values)), float(np.median(values)), float(max(values))
    if low == high:
        return plain(middle, digits)
    return f"{plain(middle, digits)} ({plain(low, digits)}{_TO}{plain(high, digits)})"


def sizes(values: Sequence[float]) -> str:
    """Numbers along axes, such as ``"40 x 56 x 40"``."""
    return "\N{THIN SPACE}\N{MULTIPLICATION SIGN}\N{THIN SPACE}".join(plain(v, 4) for v in values)
