"""Resampling of label maps: the strongest label of each voxel, without a mask per label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Shape, Triple
from autoseg.imaging.resample import axis_operator, coarse_axis, source_positions

IntegerT = TypeVar("IntegerT", bound=np.integer)
GenericT = TypeVar("GenericT", bound=np.generic)

# Voxels looked at together where labels meet: what they need fits a cache.
_CHUNK = 1 << 14


def resample_labels(
    labels: npt.NDArray[IntegerT],
    shape: Shape,
    current_spacing: Triple,
    target_spacing: Triple,
) -> npt.NDArray[IntegerT]:
    """Resample a label map.

    Each voxel gets the label whose 0/1 mask, resized linearly (along a coarse axis: nearest), is
    the largest there. Where labels share the largest value, the nearest voxel's label wins if it
    is one of them, else the smallest of them. The time hardly depends on the number of labels:
    only voxels between unequal neighbours need any arithmetic.

    Args:
        labels: integer ``(z, y, x)``.
        shape: target shape, ``(z, y, x)``.
        current_spacing: mm.
        target_spacing: mm.

    Returns:
        The same dtype, of ``shape``; the labels themselves if they have that shape already.

    References:
        ``batchgenerators`` 0.25.5, ``resize_segmentation``, down to the rounding of its ties.
    """
    if labels.shape == tuple(shape):
        return labels
    coarse = coarse_axis(current_spacing, target_spacing)
    nearest = [axis_operator(*sizes, 0).first for sizes in zip(labels.shape, shape, strict=True)]
    cells = [
        _Cells(low=index, high=index, share=np.zeros(size))
        if axis == coarse
        else _Cells.linear(labels.shape[axis], size)
        for axis, (size, index) in enumerate(zip(shape, nearest, strict=True))
    ]
    result = _gather(labels, nearest)
    mixed = _gather(_is_mixed(labels, coarse), [cell.low for cell in cells])
    for voxels in _chunks(np.flatnonzero(mixed)):
        result.ravel()[voxels] = _strongest(labels, cells, voxels, result)
    return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """The two inputs each output of an axis lies between.

    Args:
        low: the input before it, ``(size_out,)``.
        high: the input after it.
        share: weight of the input after it, float64, 0..1.
    """

    low: npt.NDArray[np.integer]
    high: npt.NDArray[np.integer]
    share: npt.NDArray[np.float64]

    @classmethod
    def linear(cls, size_in: int, size_out: int) -> _Cells:
        """The cells of a linear resize."""
        position = np.clip(source_positions(size_in, size_out), 0, size_in - 1)
        low = np.floor(position).astype(np.int32)
        return cls(low=low, high=np.minimum(low + 1, size_in - 1), share=position - low)


def _gather(
    array: npt.NDArray[GenericT], indices: Sequence[npt.NDArray[np.integer]]
) -> npt.NDArray[GenericT]:
    """Index every axis on its own."""
    for axis, index in enumerate(indices):
        array = array.take(index, axis=axis)
    return array


def _is_mixed(labels: npt.NDArray[np.integer], coarse: int | None) -> npt.NDArray[np.bool_]:
    """Whether a voxel and those after it, along all axes but the coarse one, differ."""
    low, high = labels.copy(), labels.copy()
    for axis in set(range(3)) - {coarse}:
        for extreme, ufunc in ((low, np.minimum), (high, np.maximum)):
            rows = np.moveaxis(extreme, axis, 0)
            ufunc(rows[:-1], rows[1:], out=rows[:-1])
    return low != high


def _chunks(voxels: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    return (voxels[start : start + _CHUNK] for start in range(0, len(voxels), _CHUNK))


def _strongest(
    labels: npt.NDArray[IntegerT],
    cells: Sequence[_Cells],
    voxels: npt.NDArray[np.int64],
    nearest: npt.NDArray[IntegerT],
) -> npt.NDArray[IntegerT]:
    """The label with the largest weight around each of some flat output voxels."""
    corners, weights = _corners(labels, cells, np.unravel_index(voxels, nearest.shape))
    scores = np.zeros_like(weights)
    # Corner by corner and in double precision, as scipy adds them: the rounding decides ties.
    for corner, weight in zip(corners, weights, strict=True):
        scores += np.where(corners == corner, weight, 0.0)
    is_best = scores == scores.max(axis=0)
    smallest = np.where(is_best, corners, np.iinfo(labels.dtype).max).min(axis=0)
    own = nearest.ravel()[voxels]
    return np.where((is_best & (corners == own)).any(axis=0), own, smallest)


def _corners(
    labels: npt.NDArray[IntegerT],
    cells: Sequence[_Cells],
    coordinates: Sequence[npt.NDArray[np.int64]],
) -> tuple[npt.NDArray[IntegerT], npt.NDArray[np.float64]]:
    """Labels and weights ``(8, voxels)`` of the input voxels around some output voxels."""
    sides = [
        ((cell.low[index], 1.0 - cell.share[index]), (cell.high[index], cell.share[index]))
        for cell, index in zip(cells, coordinates, strict=True)
    ]
    corners = list(product(*sides))
    found = np.stack([labels[z, y, x] for (z, _), (y, _), (x, _) in corners])
    return found, np.stack([wz * wy * wx for (_, wz), (_, wy), (_, wx) in corners])
