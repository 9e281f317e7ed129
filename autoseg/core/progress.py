"""How a stage tells its caller how far it is, without knowing a terminal."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by a stage whenever a unit of work is done."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report progress.

        Args:
            done: finished units, from 0 to ``total``.
            total: all units.
            note: what was just done, a few words.
        """
        ...


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing: the default of every stage."""
