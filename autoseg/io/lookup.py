"""Folders that users mean by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoseg.errors import DataError

_SEARCH_DEPTH = 3
_NUM_TOLD = 5


def folders_below(
    folder: Path, skipped: tuple[Path, str], depth: int = _SEARCH_DEPTH
) -> Iterator[Path]:
    """Folders up to some levels below one, without hidden ones and without a workspace.

    Args:
        folder: where to look.
        skipped: the workspace, and the name of others.
        depth: how many levels.
    """
    try:
        children = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return
    for child in children:
        if child.name.startswith(".") or child == skipped[0] or child.name == skipped[1]:
            continue
        yield child
        if depth > 1:
            yield from folders_below(child, skipped, depth - 1)


def ambiguous(name: str, found: Sequence[Path]) -> DataError:
    """Build the error for a name that several folders have."""
    places = ", ".join(str(folder) for folder in found[:_NUM_TOLD])
    return DataError(f"'{name}' may mean {places}", remedy="write the path")


def suggestion(name: str, known: Sequence[str]) -> str:
    """What a misspelt name may have meant, as the end of a message; empty if nothing is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f"; did you mean '{by_folded[near[0]]}'?" if near else ""
