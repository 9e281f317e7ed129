"""Where the points of a rotated, scaled or shifted grid lie in a box of voxels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

PIECE = 1 << 14
"""Points looked at together: what they need fits a core's cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Points in a box of voxels: ``point(i) = origin + matrix @ i``.

    Args:
        matrix: ``(d, d)``, with 2 or 3 axes.
        origin: the first point, in voxels of the box.
        shape: number of points per axis.
    """

    matrix: npt.NDArray[np.float64]
    origin: npt.NDArray[np.float64]
    shape: tuple[int, ...]

    @property
    def is_straight(self) -> bool:
        """Whether every axis of points runs along the same axis of the box."""
        return not np.count_nonzero(self.matrix - np.diag(np.diag(self.matrix)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Points of a box, each by its cell and where in the cell it lies.

    Args:
        cells: flat index of the cell's lowest corner.
        fractions: per axis, float32 0..1.
        strides: distance of neighbours in the flat box, per axis.
    """

    cells: Indices
    fractions: Sequence[Floats]
    strides: tuple[int, ...]

    def some(self, chosen: Indices | slice) -> Points:
        """Some of the points."""
        return Points(
            cells=self.cells[chosen],
            fractions=[fraction[chosen] for fraction in self.fractions],
            strides=self.strides,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axis:
    """Where the points of one axis of a straight grid lie.

    Args:
        low: the voxel before each point.
        fraction: how far from it to the next, float32 0..1.
    """

    low: Indices
    fraction: Floats


def strides_of(box: Sequence[int]) -> tuple[int, ...]:
    """Distance of neighbours in a flat box, per axis."""
    return tuple(prod(box[axis + 1 :]) for axis in range(len(box)))


def located(grid: Grid, strides: tuple[int, ...]) -> Iterator[tuple[slice, Points]]:
    """Locate the points of a grid, some rows at a time.

    Args:
        grid: in a box that holds it.
        strides: of that box.

    Yields:
        Which of the flat points, and where they lie.
    """
    *leading, length = grid.shape
    rows = np.indices(leading).reshape(len(leading), -1)
    starts = (grid.origin[:, None] + grid.matrix[:, :-1] @ rows).astype(np.float32)
    along = (grid.matrix[:, -1:] * np.arange(length)).astype(np.float32)
    step = max(1, PIECE // length)
    for first in range(0, rows.shape[1], step):
        cells = np.zeros(1, dtype=np.int32)
        fractions: list[Floats] = []
        for start, way, stride in zip(starts, along, strides, strict=True):
            position = np.add.outer(start[first : first + step], way).ravel()
            whole = np.floor(position)
            position -= whole
            fractions.append(position)
            cells = cells + whole.astype(np.int32) * np.int32(stride)
        begin = first * length
        yield (
            slice(begin, begin + len(cells)),
            Points(cells=cells.astype(np.intp), fractions=fractions, strides=strides),
        )


def straight_axes(grid: Grid) -> list[Axis]:
    """Where the points of a straight grid lie, per axis."""
    axes: list[Axis] = []
    for start, step, size in zip(grid.origin, np.diag(grid.matrix), grid.shape, strict=True):
        position = start + step * np.arange(size)
        low = np.floor(position)
        axes.append(Axis(low=low.astype(np.intp), fraction=(position - low).astype(np.float32)))
    return axes
