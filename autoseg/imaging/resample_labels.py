"""Resampling of label maps: the strongest label of each voxel, without a mask per label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Shape, Triple
from autoseg.imaging.operators import axis_operator, source_positions
from autoseg.imaging.resample import coarse_axis, destination, unchanged

IntegerT = TypeVar("IntegerT", bound=np.integer)
Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

# Voxels looked at together: what they need fits a cache.
_SLAB = 1 << 19
_CHUNK = 1 << 13


def resample_labels(
    labels: npt.NDArray[IntegerT],
    shape: Shape,
    current_spacing: Triple,
    target_spacing: Triple,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[IntegerT]:
    """Resample a label map.

    Each voxel gets the label whose 0/1 mask, resized linearly (along a coarse axis: nearest), is
    the largest there. Where labels share the largest value, the nearest voxel's label wins if it
    is one of them, else the smallest of them. The time hardly depends on the number of labels:
    only voxels between unequal neighbours need any arithmetic.

    Args:
        labels: integer ``(z, y, x)``, in any memory layout.
        shape: target shape, ``(z, y, x)``.
        current_spacing: mm.
        target_spacing: mm.
        out: integer ``shape``, what to write into, of a type that holds all labels; None for a
            new array.

    Returns:
        ``out``, or a new array of the labels' type, or the labels themselves if they have that
        shape already.

    Raises:
        ValueError: if ``out`` has another shape.

    References:
        ``batchgenerators`` 0.25.5, ``resize_segmentation``, down to the rounding of its ties.
    """
    if labels.shape == tuple(shape):
        return unchanged(labels, out)
    result = destination(out, shape, labels.dtype)
    coarse = coarse_axis(current_spacing, target_spacing)
    # What surrounds all structures is found once and never looked at again.
    surrounding = labels[0, 0, 0]
    first, *others = (
        _Axis.along(size, shape[axis], extent, is_nearest=axis == coarse)
        for axis, (size, extent) in enumerate(
            zip(labels.shape, _extent(labels, surrounding), strict=True)
        )
    )
    if any(len(axis.low) == 0 for axis in (first, *others)):
        result[...] = surrounding
        return result
    inner = tuple(axis.rows for axis in others)
    result[: first.rows.start] = surrounding
    result[first.rows.stop :] = surrounding
    thickness = max(1, _SLAB // prod(len(axis.low) for axis in others))
    for start in range(0, len(first.low), thickness):
        slab = first.part(start, start + thickness)
        planes = _resampled_box(labels, [slab, *others])
        for row, place in enumerate(slab.place, start=slab.rows.start):
            result[row] = surrounding
            result[row][inner] = planes[place]
    return result


def _extent(labels: npt.NDArray[np.integer], surrounding: np.integer) -> list[slice]:
    """The box of all voxels that are not the surrounding label; empty if there are none."""
    used = [np.zeros(size, dtype=bool) for size in labels.shape]
    for index, plane in enumerate(labels):
        differs = plane != surrounding
        lines = differs.any(axis=1)
        used[0][index] = lines.any()
        used[1] |= lines
        used[2] |= differs.any(axis=0)
    return [_span(flags) for flags in used]


def _span(flags: npt.NDArray[np.bool_]) -> slice:
    """From the first to the last flag."""
    places = np.flatnonzero(flags)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Axis:
    """What there is to do along one axis.

    Outputs that repeat an input share a place, which is worked out once.

    Args:
        rows: the outputs that are not all surrounding.
        place: of each of them, ``(rows,)``; never decreases.
        source: the inputs they depend on.
        low: the input before each place, ``(places,)``, counted from the start of ``source``.
        high: the input after it; None if every place takes the input at ``low``.
        share: weight of the input after it, ``(places,)``, 0..1.
        nearest: the nearer of both, ``(places,)``.
    """

    rows: slice
    place: Indices
    source: slice
    low: Indices
    high: Indices | None
    share: Weights
    nearest: Indices

    @classmethod
    def along(cls, size_in: int, size_out: int, extent: slice, *, is_nearest: bool) -> _Axis:
        """The outputs that some inputs matter to."""
        nearest = axis_operator(size_in, size_out, 0).first.astype(np.int64)
        if is_nearest or size_in == size_out:
            rows = _span((nearest >= extent.start) & (nearest < extent.stop))
            used, place = np.unique(nearest[rows], return_inverse=True)
            share = np.zeros(len(used))
            return cls._counted(rows, place, low=used, high=None, share=share, nearest=used)
        position = np.clip(source_positions(size_in, size_out), 0, size_in - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, size_in - 1)
        rows = _span((high >= extent.start) & (low < extent.stop))
        return cls._counted(
            rows,
            np.arange(rows.stop - rows.start),
            low=low[rows],
            high=high[rows],
            share=(position - low)[rows],
            nearest=nearest[rows],
        )

    @classmethod
    def _counted(
        cls,
        rows: slice,
        place: Indices,
        *,
        low: Indices,
        high: Indices | None,
        share: Weights,
        nearest: Indices,
    ) -> _Axis:
        """Count inputs from the first that is needed."""
        last = low if high is None else high
        source = slice(int(low[0]), int(last[-1]) + 1) if len(low) else slice(0, 0)
        return cls(
            rows=rows,
            place=place,
            source=source,
            low=low - source.start,
            high=None if high is None else high - source.start,
            share=share,
            nearest=nearest - source.start,
        )

    def part(self, start: int, stop: int) -> _Axis:
        """The same for some neighbouring places."""
        chosen = slice(start, stop)
        first, last = np.searchsorted(self.place, [start, stop]).tolist()
        part = self._counted(
            slice(self.rows.start + first, self.rows.start + last),
            self.place[first:last] - start,
            low=self.low[chosen],
            high=None if self.high is None else self.high[chosen],
            share=self.share[chosen],
            nearest=self.nearest[chosen],
        )
        begin = self.source.start
        source = slice(part.source.start + begin, part.source.stop + begin)
        return replace(part, source=source)

    def sides(self, stride: int) -> list[tuple[Indices, Weights]]:
        """The inputs of each place, as flat indices of an axis with this stride, with weights."""
        low = (self.low * stride, 1.0 - self.share)
        return [low] if self.high is None else [low, (self.high * stride, self.share)]


def _resampled_box(labels: npt.NDArray[IntegerT], axes: Sequence[_Axis]) -> npt.NDArray[IntegerT]:
    """The labels of the outputs of three axes, but each place of the first axis only once."""
    box = np.ascontiguousarray(labels[tuple(axis.source for axis in axes)])
    # A label of this value costs time, never correctness.
    mark = np.iinfo(box.dtype).max - 1
    marked = box.copy()
    np.copyto(marked, mark, where=_is_mixed(box, [axis.high is not None for axis in axes]))
    result = _gathered(marked, [axis.low for axis in axes])
    flat = result.reshape(-1)
    mixed = np.flatnonzero(flat == mark)
    corners = _Corners(box, axes)
    for start in range(0, len(mixed), _CHUNK):
        voxels = mixed[start : start + _CHUNK]
        flat[voxels] = corners.strongest(np.unravel_index(voxels, result.shape))
    for axis in (1, 2):
        if axes[axis].high is None:
            result = result.take(axes[axis].place, axis=axis)
    return result


def _is_mixed(box: npt.NDArray[np.integer], is_linear: Sequence[bool]) -> npt.NDArray[np.bool_]:
    """Whether a voxel and those after it, along all linear axes, differ."""
    mixed = np.zeros(box.shape, dtype=bool)
    for axis in (2, 1, 0):
        if is_linear[axis]:
            labels, flags = np.moveaxis(box, axis, 0), np.moveaxis(mixed, axis, 0)
            flags[:-1] |= flags[1:]
            flags[:-1] |= labels[:-1] != labels[1:]
    return mixed


def _gathered(array: npt.NDArray[IntegerT], indices: Sequence[Indices]) -> npt.NDArray[IntegerT]:
    """Index every axis on its own."""
    # Whole planes and lines are copied faster than single voxels: when an axis shrinks they
    # go first, when it grows last.
    shrinking = [axis for axis in (0, 1, 2) if len(indices[axis]) <= array.shape[axis]]
    growing = [axis for axis in (2, 1, 0) if len(indices[axis]) > array.shape[axis]]
    for axis in shrinking + growing:
        array = array.take(indices[axis], axis=axis)
    return array


class _Corners:
    """The labels around the places of a box, and which of them is the strongest.

    Args:
        box: integer ``(z, y, x)``, contiguous.
        axes: what places there are.
    """

    def __init__(self, box: npt.NDArray[Any], axes: Sequence[_Axis]) -> None:
        self._labels = box.reshape(-1)
        strides = (box.shape[1] * box.shape[2], box.shape[2], 1)
        self._nearest = [axis.nearest * step for axis, step in zip(axes, strides, strict=True)]
        self._sides = [axis.sides(step) for axis, step in zip(axes, strides, strict=True)]

    def strongest(self, places: Sequence[Indices]) -> npt.NDArray[Any]:
        """The label with the largest weight around each of some places.

        Args:
            places: indices per axis, ``(places,)``.
        """
        corners, weights = self._around(places)
        least, most = corners.min(axis=0), corners.max(axis=0)
        is_most = corners == most
        most_score, least_score = np.zeros((2, len(most)))
        # Corner by corner and in double precision, as scipy adds them: the rounding decides ties.
        for flags, weight in zip(is_most, weights, strict=True):
            most_score += weight * flags
            least_score += weight * ~flags
        result = np.where(most_score > least_score, most, least)
        ties = np.flatnonzero(most_score == least_score)
        result[ties] = self._own(places, ties)
        many = np.flatnonzero(~(is_most | (corners == least)).all(axis=0))
        result[many] = _strongest_of_many(
            corners.take(many, axis=1), weights.take(many, axis=1), self._own(places, many)
        )
        return result

    def _own(self, places: Sequence[Indices], chosen: Indices) -> npt.NDArray[Any]:
        """The label nearest to some of the places."""
        z, y, x = (index[place[chosen]] for index, place in zip(self._nearest, places, strict=True))
        return self._labels.take(z + y + x)

    def _around(self, places: Sequence[Indices]) -> tuple[npt.NDArray[Any], Weights]:
        """Labels and weights ``(corners, places)``."""
        sides = [
            [(index[place], weight[place]) for index, weight in pairs]
            for pairs, place in zip(self._sides, places, strict=True)
        ]
        corners = list(product(*sides))
        labels = np.stack([self._labels.take(z + y + x) for (z, _), (y, _), (x, _) in corners])
        return labels, np.stack([wz * wy * wx for (_, wz), (_, wy), (_, wx) in corners])


def _strongest_of_many(
    corners: npt.NDArray[IntegerT], weights: Weights, own: npt.NDArray[IntegerT]
) -> npt.NDArray[IntegerT]:
    """The label with the largest weight where more than two meet."""
    scores = np.zeros_like(weights)
    for corner, weight in zip(corners, weights, strict=True):
        scores += np.where(corners == corner, weight, 0.0)
    is_best = scores == scores.max(axis=0)
    smallest = np.where(is_best, corners, np.iinfo(corners.dtype).max).min(axis=0)
    return np.where((is_best & (corners == own)).any(axis=0), own, smallest)
