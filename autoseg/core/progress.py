"""How a stage tells its caller how far it is, without knowing a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol


class Progress(Protocol):
    """Called by a stage whenever a unit of work is done."""

    def __call__(
        self, done: int, total: int, note: str = "", *, share: float | None = None
    ) -> None:
        """Report progress.

        Args:
            done: finished units, from 0 to ``total``.
            total: all units.
            note: what was just done, a few words.
            share: how much of the work is done, 0 to 1, where units differ in size: time left
                follows it. None where they are alike.
        """
        ...


def silent(done: int, total: int, note: str = "", *, share: float | None = None) -> None:
    """Report nothing: the default of every stage."""


class VoxelPace:
    """How far a stage is, and how fast, whose cases differ in size.

    Args:
        voxels: size of each case.
    """

    def __init__(self, voxels: Sequence[int]) -> None:
        self._voxels = voxels
        self._total = sum(voxels)
        self._settled = self._made = 0
        self._start_s = time.monotonic()

    @property
    def share(self) -> float:
        """Share of all voxels whose cases are settled, 0 to 1."""
        return self._settled / self._total if self._total else 1.0

    def count(self, index: int, *, made: bool) -> None:
        """Count a case as settled.

        Args:
            index: which.
            made: whether it was made; one that failed says nothing of the speed.
        """
        self._settled += self._voxels[index]
        self._made += self._voxels[index] if made else 0

    def note(self, name: str) -> str:
        """A case and the speed since the beginning, as ``case_0061, 41 Mvoxel/s``.

        Only the case as long as nothing was made: all that failed so far says nothing.
        """
        if self._made == 0:
            return name
        speed = self._made / max(time.monotonic() - self._start_s, 1e-3)
        units = ((1e9, "Gvoxel/s"), (1e6, "Mvoxel/s"), (1e3, "kvoxel/s"), (1.0, "voxel/s"))
        size, unit = next((u for u in units if speed >= u[0]), units[-1])
        number = speed / size
        return f"{name}, {number:.{0 if number >= 10 else 1}f} {unit}"
