"""Labels at the points of a grid: one 0/1 mask per label, of which the strongest wins.

Only cells whose corners differ need any arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from autoseg.train.augmentation.grid import PIECE, Axis, Indices, Points

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int16]

_MIXED = np.int16(np.iinfo(np.int16).min)
_HALF = np.float32(0.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixed:
    """Points in cells with several labels, which are settled together.

    Args:
        places: where their labels belong in the flat result.
        points: where they lie in the box.
    """

    places: Indices
    points: Points

    @classmethod
    def joined(cls, parts: Sequence[Mixed]) -> Mixed:
        """All of them, one after the other."""
        fractions = zip(*(part.points.fractions for part in parts), strict=True)
        points = Points(
            cells=np.concatenate([part.points.cells for part in parts]),
            fractions=[np.concatenate(column) for column in fractions],
            strides=parts[0].points.strides,
        )
        return cls(places=np.concatenate([part.places for part in parts]), points=points)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMap:
    """A flat label map, and the label of every cell whose corners agree.

    Args:
        flat: labels of the box.
        codes: of the cell that begins at each voxel, or ``_MIXED``; None where all agree.
        strides: of the box.
    """

    flat: Labels
    codes: Labels | None
    strides: tuple[int, ...]

    @classmethod
    def of(cls, flat: Labels, strides: tuple[int, ...]) -> LabelMap:
        """Look at the corners of all cells."""
        if flat.min() == flat.max():
            return cls(flat=flat, codes=None, strides=strides)
        low = high = flat
        for stride in strides:
            low = np.minimum(low[:-stride], low[stride:])
            high = np.maximum(high[:-stride], high[stride:])
        # Cells that would begin at the upper borders are garbage that nobody asks for.
        codes = np.full_like(flat, _MIXED)
        np.copyto(codes[: len(low)], low, where=low == high)
        return cls(flat=flat, codes=codes, strides=strides)

    def pick(self, points: Points, piece: slice, out: Labels) -> Mixed:
        """Write the label of each point whose cell has only one.

        Args:
            points: where to look.
            piece: where their labels belong in the flat result.
            out: the flat result.

        Returns:
            The points whose cells have several.
        """
        mixed = np.empty(0, dtype=np.intp)
        if self.codes is None:
            out[piece] = self.flat[0]
        else:
            np.take(self.codes, points.cells, mode="clip", out=out[piece])
            mixed = np.flatnonzero(out[piece] == _MIXED)
        return Mixed(places=mixed + piece.start, points=points.some(mixed))

    def settle(self, mixed: Mixed, out: Labels) -> None:
        """Write the labels of points in cells that have several to the flat result."""
        for first in range(0, len(mixed.places), PIECE):
            part = slice(first, first + PIECE)
            out[mixed.places[part]] = _strongest(self.flat, mixed.points.some(part))

    def pick_along_axes(self, axes: Sequence[Axis], box: Sequence[int], out: Labels) -> None:
        """Write the label of each point of a straight grid to the flat result."""
        if self.codes is None:
            out[:] = self.flat[0]
            return
        codes = self.codes.reshape(box)
        for number, axis in enumerate(axes):
            codes = codes.take(axis.low, axis=number)
        out[:] = codes.ravel()
        places = np.flatnonzero(out == _MIXED)
        index = np.unravel_index(places, [len(axis.low) for axis in axes])
        steps = list(zip(axes, index, self.strides, strict=True))
        points = Points(
            cells=np.sum([axis.low[i] * stride for axis, i, stride in steps], axis=0),
            fractions=[axis.fraction[i] for axis, i, _ in steps],
            strides=self.strides,
        )
        self.settle(Mixed(places=places, points=points), out)


def _strongest(flat: Labels, points: Points) -> Labels:
    """The label with the largest linear weight in cells that hold two or more labels."""
    corners = _corners(flat, points)
    lowest, highest = corners.min(axis=0), corners.max(axis=0)
    is_highest = corners == highest
    share = _mix(list(is_highest.astype(np.float32)), points.fractions)
    nearest = _nearest(flat, points)
    result = np.where(share > _HALF, highest, lowest)
    result = np.where(share == _HALF, nearest, result)
    more = np.flatnonzero(~(is_highest | (corners == lowest)).all(axis=0))
    if more.size:
        result[more] = _strongest_of_many(corners[:, more], points.some(more), nearest[more])
    return result


def _strongest_of_many(corners: Labels, points: Points, nearest: Labels) -> Labels:
    """The same for cells with any number of labels."""
    sides = [(1.0 - part.astype(np.float64), part.astype(np.float64)) for part in points.fractions]
    weights = np.stack([np.prod(corner, axis=0) for corner in product(*sides)])
    scores = np.zeros_like(weights)
    for corner, weight in zip(corners, weights, strict=True):
        scores += np.where(corners == corner, weight, 0.0)
    is_best = scores >= scores.max(axis=0) - 1e-9
    smallest = np.where(is_best, corners, np.iinfo(np.int16).max).min(axis=0)
    return np.where((is_best & (corners == nearest)).any(axis=0), nearest, smallest)


def _corners(flat: Labels, points: Points) -> Labels:
    """Labels ``(2**d, points)`` of the corners of cells, the last axis changing first."""
    offsets = [sum(steps) for steps in product(*((0, stride) for stride in points.strides))]
    return np.stack([np.take(flat[offset:], points.cells, mode="clip") for offset in offsets])


def _mix(values: list[Floats], fractions: Sequence[Floats]) -> Floats:
    """Linear interpolation between the values of corners; these are written over."""
    for fraction in reversed(fractions):
        for low, high in zip(values[::2], values[1::2], strict=True):
            np.subtract(high, low, out=high)
            np.multiply(high, fraction, out=high)
            np.add(low, high, out=low)
        values = values[::2]
    return values[0]


def _nearest(flat: Labels, points: Points) -> Labels:
    cells = points.cells.copy()
    for fraction, stride in zip(points.fractions, points.strides, strict=True):
        cells += (fraction > _HALF) * np.intp(stride)
    return np.take(flat, cells, mode="clip")
