"""Resizing of whole arrays, slab by slab.

Slabs are cut along the first axis and resized by dense products of small blocks of the axes'
bands, in pieces that fit a cache. Beside source and result that takes less than a slab of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise
from math import prod
from typing import Self

import numpy as np

from autoseg.imaging.half import as_float32, write
from autoseg.imaging.operators import AnyFloats, AxisOperator, Floats, axis_operator

# Outputs per block, by taps: narrow enough to skip most zeros of the band, wide enough for BLAS.
_BLOCK = {2: 8}
_WIDEST_BLOCK = 32
# Neighbouring planes go through all their axes together: this many voxels stay in a cache.
_GROUP_VOXELS = 1 << 17


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """Some neighbouring outputs of an axis.

    Args:
        rows: the outputs.
        window: the inputs they depend on.
    """

    rows: slice
    window: slice


class ValueRange:
    """The range of a volume's values, which a cubic resize must not leave.

    It is collected part by part, so that the volume never has to exist as a whole.

    Args:
        shape: of the volume, ``(z, y, x)``.
        coarse: the axis whose slices each keep to a range of their own; None for one range.
    """

    def __init__(self, shape: Sequence[int], coarse: int | None) -> None:
        self._coarse = coarse
        self._axes = tuple(axis for axis in range(3) if axis != coarse)
        sizes = [size if axis == coarse else 1 for axis, size in enumerate(shape)]
        self._low: Floats = np.full(sizes, np.inf, dtype=np.float32)
        self._high: Floats = np.full(sizes, -np.inf, dtype=np.float32)

    @classmethod
    def of(cls, volume: AnyFloats, coarse: int | None) -> Self:
        """The range of a volume that is there as a whole.

        Args:
            volume: float16 or float32 ``(z, y, x)``.
            coarse: as for the class.
        """
        values = cls(volume.shape, coarse)
        for rows in _cut(len(volume), 1):
            values.add(rows, volume[rows])
        return values

    def add(self, rows: slice, part: AnyFloats) -> None:
        """Take a part of the volume into account.

        Args:
            rows: where it lies along the first axis.
            part: float16 or float32, the volume cut to ``rows``.
        """
        mine = rows if self._coarse == 0 else slice(None)
        part = as_float32(part)
        for extreme, ufunc in ((self._low, np.minimum), (self._high, np.maximum)):
            found = ufunc.reduce(part, axis=self._axes, keepdims=True)
            extreme[mine] = ufunc(extreme[mine], found)

    def clip(self, rows: slice, part: AnyFloats, new_shape: Sequence[int]) -> None:
        """Clip a part of the resized volume, in place.

        Args:
            rows: where it lies along the first axis of the resized volume.
            part: float16 or float32, the resized volume cut to ``rows``.
            new_shape: of the whole resized volume.
        """
        low, high = self._low, self._high
        if self._coarse is not None:
            sizes = low.shape[self._coarse], new_shape[self._coarse]
            nearest = axis_operator(*sizes, 0).first[rows if self._coarse == 0 else slice(None)]
            low, high = low.take(nearest, self._coarse), high.take(nearest, self._coarse)
        np.clip(part, low, high, out=part)


class Resizer:
    """Resizes arrays of one shape to another, slab by slab along the first axis.

    Args:
        shape: of the arrays it resizes.
        new_shape: of the results.
        orders: 0, 1 or 3 per axis; see ``axis_operator``.
        slab_rows: thickness of a slab of the result; the last one may be thinner.

    Attributes:
        slabs: the slabs of the result in order, each with the part of the source it needs.
    """

    def __init__(
        self,
        shape: Sequence[int],
        new_shape: Sequence[int],
        orders: Sequence[int],
        slab_rows: int = 32,
    ) -> None:
        operators = [
            None if size == new_size else axis_operator(size, new_size, order)
            for size, new_size, order in zip(shape, new_shape, orders, strict=True)
        ]
        self._first = operators[0]
        self._new_shape = tuple(new_shape)
        self.slabs: tuple[Band, ...] = tuple(
            Band(rows=rows, window=self._first.window(rows) if self._first else rows)
            for rows in _cut(new_shape[0], slab_rows)
        )
        changed = [(axis, op) for axis, op in enumerate(operators) if axis and op]
        # Slices that are left out are left out first, those repeated are repeated last, and
        # shrinking axes go before growing ones: that keeps what lies between two axes small.
        changed.sort(key=lambda step: (step[1].picks and step[1].growth > 1, step[1].growth))
        self._left_out = [(axis, op.first) for axis, op in changed if op.picks and op.growth < 1]
        self._steps = [_step(axis, op) for axis, op in changed if not op.picks or op.growth > 1]
        self._interpolates = not all(op is None or op.picks for op in operators)
        self._group = max(1, _GROUP_VOXELS // max(prod(shape[1:]), prod(new_shape[1:])))

    def slab(
        self,
        slab: Band,
        source: AnyFloats,
        out: AnyFloats | None = None,
        within: ValueRange | None = None,
    ) -> AnyFloats:
        """Compute one slab of the result.

        Args:
            slab: one of ``slabs``.
            source: float16 or float32, the array to resize cut to ``slab.window`` along its
                first axis.
            out: float16 or float32, what to write the slab into; None for a new float32 array.
            within: of the whole source, what to clip the slab to; None to leave it as it is.

        Returns:
            The result cut to ``slab.rows``: ``out``, or a new array, or the source itself if it
            is float32 and nothing changes.
        """
        if out is None:
            if self._first is None and not self._left_out and not self._steps:
                return as_float32(source)
            rows = slab.rows.stop - slab.rows.start
            out = np.empty((rows, *self._new_shape[1:]), dtype=np.float32)
        for axis, index in self._left_out:
            source = source.take(index, axis=axis)
        for rows, planes in self._along_first(slab, source):
            resized = reduce(lambda array, step: step(array), self._steps, planes)
            if within is not None and self._interpolates:
                start = slab.rows.start + rows.start
                within.clip(slice(start, start + len(resized)), resized, self._new_shape)
            write(resized, out[rows])
            del planes, resized
        return out

    def _along_first(self, slab: Band, source: AnyFloats) -> Iterator[tuple[slice, Floats]]:
        """Groups of planes whose first axis is done, with the rows of the slab they are for.

        A single plane may be for many rows.
        """
        if self._first is None:
            for rows in _cut(len(source), self._group):
                yield rows, as_float32(source[rows])
        elif self._first.picks:
            nearest = self._first.first[slab.rows] - slab.window.start
            changes = np.flatnonzero(np.diff(nearest)) + 1
            for start, stop in pairwise([0, *changes.tolist(), len(nearest)]):
                yield slice(start, stop), as_float32(source[nearest[start], None])
        else:
            for block in _blocks(self._first, slab.rows):
                start, low = block.rows.start - slab.rows.start, slab.window.start
                window = slice(block.window.start - low, block.window.stop - low)
                mixed = _mixed(block.matrix, as_float32(source[window]))
                for group in _cut(len(mixed), self._group):
                    yield slice(start + group.start, start + group.stop), mixed[group]
                # Two blocks at a time would be more than a slab.
                del mixed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """A few outputs of an axis as a small dense product.

    Args:
        rows: the outputs.
        window: the inputs they depend on.
        matrix: float32 ``(rows, window)``.
    """

    rows: slice
    window: slice
    matrix: Floats


def _blocks(operator: AxisOperator, rows: slice) -> Iterator[_Block]:
    """Some outputs of an operator in equal blocks that are as wide as is fast."""
    size = rows.stop - rows.start
    count = -(-size // _BLOCK.get(operator.taps, _WIDEST_BLOCK))
    for start, stop in pairwise(rows.start + size * i // count for i in range(count + 1)):
        window, part = operator.part(start, stop)
        yield _Block(rows=slice(start, stop), window=window, matrix=part.dense())


def _cut(size: int, thickness: int) -> Iterator[slice]:
    """Cut a range every ``thickness``."""
    return (slice(i, min(i + thickness, size)) for i in range(0, size, thickness))


def _step(axis: int, operator: AxisOperator) -> Callable[[Floats], Floats]:
    if operator.picks:
        return partial(np.take, indices=operator.first, axis=axis)
    blocks = list(_blocks(operator, slice(0, operator.size_out)))
    return partial(_multiplied, blocks=blocks, axis=axis)


def _multiplied(array: Floats, blocks: Sequence[_Block], axis: int) -> Floats:
    """Resize an axis that is not the first."""
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    source = array.reshape(prod(before), array.shape[axis], prod(after))
    result = np.empty((len(source), blocks[-1].rows.stop, source.shape[2]), dtype=np.float32)
    for block in blocks:
        if after:
            np.matmul(block.matrix, source[:, block.window], out=result[:, block.rows])
        else:
            columns = source[:, block.window, 0]
            np.matmul(columns, block.matrix.T, out=result[:, block.rows, 0])
    return result.reshape(*before, -1, *after)


def _mixed(matrix: Floats, planes: Floats) -> Floats:
    """Resize the first axis."""
    return (matrix @ planes.reshape(len(planes), -1)).reshape(-1, *planes.shape[1:])
