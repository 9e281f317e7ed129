"""Names of label values in the files that annotation tools write beside label maps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_SNAP = re.compile(r'\s*(\d+)(?:\s+[\d.]+){4,6}\s+"(.+)"\s*')
_COLOUR_TABLE = re.compile(r"\s*(\d+)\s+(\S.*?)(?:\s+\d+){3,4}\s*")
_VALUE_FIRST = re.compile(r"\s*(\d+)\s*(?:[:=,;\t ]|->)\s*\"?([^\W\d][^\"]*?)\"?\s*")
_NAME_FIRST = re.compile(r"\s*\"?([^\W\d][^\"]*?)\"?\s*[:=,;\t ]\s*(\d+)\s*")
_COMMENTS = ("#", "//", "%")
_BACKGROUND = ("background", "clear label", "clear", "none")


def parse_names(text: str) -> dict[int, str]:
    """Read names of label values.

    Known are the label descriptions of ITK-SNAP, the colour tables of 3D Slicer, and lines of a
    value and a name in either order, separated by a blank, ``:``, ``=`` or a comma.

    Args:
        text: the content of a file.

    Returns:
        The name of each value, that of the background left out; nothing if the lines are in no
        such format.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith(_COMMENTS)]
    for pattern in (_SNAP, _COLOUR_TABLE, _VALUE_FIRST, _NAME_FIRST):
        matches = [pattern.fullmatch(line) for line in lines]
        found = [match for match in matches if match is not None]
        # A heading may stand above the lines.
        if found and len(found) >= len(lines) - 1:
            return _without_background(_pair(*match.groups()) for match in found)
    return {}


def _pair(first: str, second: str) -> tuple[int, str]:
    return (int(first), second) if first.isdigit() else (int(second), first)


def _without_background(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    return {value: name.strip() for value, name in pairs if name.casefold() not in _BACKGROUND}


def best_names(candidates: Mapping[str, Mapping[int, str]], values: Iterable[int]) -> str | None:
    """The file that names most of the values that occur.

    Args:
        candidates: for each file the names it gives.
        values: of structures.

    Returns:
        The first of the best; None if no file names one of them.
    """
    wanted = set(values)
    best = max(candidates, key=lambda file: len(wanted & set(candidates[file])), default=None)
    return best if best is not None and wanted & set(candidates[best]) else None
