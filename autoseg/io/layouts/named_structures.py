"""Several names of structures in one cell of a table."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.errors import unknown_name

DIVIDER = "|"
"""Commas, semicolons and tabs divide the columns, and names may have spaces in them."""


def find_structures(cell: str, known: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The structures that a cell lists.

    Upper and lower case do not matter where only one structure can be meant.

    Args:
        cell: names divided by ``|``.
        known: the structures there are.

    Returns:
        Those listed, in the order of ``known``, and what is wrong with the cell.
    """
    written = [name.strip() for name in cell.split(DIVIDER)]
    found = {name: _meant(name, known) for name in written if name}
    if not found:
        return (), [f"'{cell}' names no structure; leave the cell empty if all were annotated"]
    findings = [
        f"{unknown_name('structure', name, known).finding}; divide several by '{DIVIDER}'"
        for name, meant in found.items()
        if meant is None
    ]
    return tuple(name for name in known if name in found.values()), findings


def _meant(name: str, known: Sequence[str]) -> str | None:
    if name in known:
        return name
    alike = [other for other in known if other.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None
