"""Problems in one line each: what stops planning, and what it goes on in spite of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from autoseg.core.problem import KINDS, Problem, by_kind, in_words
from autoseg.errors import DataError

LISTS_ALL = "autoseg check TASK lists all, with what mends each"


def refuse_errors(problems: Iterable[Problem], root: Path) -> None:
    """Stop if there is an error.

    Args:
        problems: of a data set.
        root: its folder.

    Raises:
        DataError: names the number of problems of each kind and the first of them.
    """
    kinds = by_kind(problem for problem in problems if problem.is_error)
    errors = [problem for found in kinds.values() for problem in found]
    if not errors:
        return
    first = in_words(errors[0], root)
    if len(errors) == 1:
        raise DataError(first, place=root, remedy=KINDS[errors[0].kind].remedy)
    counts = ", ".join(f"{KINDS[kind].title} ({len(found)})" for kind, found in kinds.items())
    raise DataError(
        f"{len(errors)} problems: {counts}; the first is {first}", place=root, remedy=LISTS_ALL
    )


def warnings_of(problems: Iterable[Problem], root: Path) -> list[str]:
    """One line for each kind of warning.

    Args:
        problems: of a data set.
        root: its folder.
    """
    lines: list[str] = []
    for kind, found in by_kind(p for p in problems if not p.is_error).items():
        line = f"{KINDS[kind].title}: {in_words(found[0], root)}"
        if len(found) > 1:
            line += f" and {len(found) - 1} more; autoseg check TASK lists them"
        else:
            line += f"; {KINDS[kind].remedy}"
        lines.append(line)
    return lines
