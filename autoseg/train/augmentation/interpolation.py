"""Images and labels at the points of a rotated, scaled or shifted grid, both linearly."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from autoseg.train.augmentation.grid import (
    PIECE,
    Axis,
    Floats,
    Grid,
    Indices,
    Points,
    located,
    straight_axes,
    strides_of,
)
from autoseg.train.augmentation.label_interpolation import LabelMap, Labels, Mixed


def sample(images: Floats, labels: Labels, grid: Grid) -> tuple[Floats, Labels]:
    """Take images and label maps at the points of a grid.

    Args:
        images: float32 ``(n, *box)``.
        labels: int16 ``(m, *box)``.
        grid: points at least one voxel away from the upper borders of the box and not below
            the lower ones: the caller has read a box that holds them.

    Returns:
        float32 ``(n, *grid.shape)`` and int16 ``(m, *grid.shape)``. A label is the one with the
        largest linear weight; on a tie the nearest voxel's if it is among the largest, else the
        smallest of them.
    """
    strides = strides_of(labels.shape[1:])
    flat_images = images.reshape(len(images), -1)
    maps = [LabelMap.of(plane.ravel(), strides) for plane in labels]
    result = np.empty((len(images), prod(grid.shape)), dtype=np.float32)
    label_result = np.empty((len(labels), prod(grid.shape)), dtype=np.int16)
    if grid.is_straight:
        axes = straight_axes(grid)
        _sample_along_axes(images, axes, result.reshape(len(images), *grid.shape))
        for plane, out in zip(maps, label_result, strict=True):
            plane.pick_along_axes(axes, labels.shape[1:], out)
    else:
        mixed: list[list[Mixed]] = [[] for _ in maps]
        for piece, points in located(grid, strides):
            for flat, out in zip(flat_images, result, strict=True):
                out[piece] = _blend(flat, points)
            for plane, out, found in zip(maps, label_result, mixed, strict=True):
                found.append(plane.pick(points, piece, out))
        for plane, out, found in zip(maps, label_result, mixed, strict=True):
            plane.settle(Mixed.joined(found), out)
    return (
        result.reshape(len(images), *grid.shape),
        label_result.reshape(len(labels), *grid.shape),
    )


def _blend(flat: Floats, points: Points, axis: int = 0, offset: int = 0) -> Floats:
    """Linear interpolation of a flat box: between two halves, each interpolated the same way."""
    if axis == len(points.strides):
        return np.take(flat[offset:], points.cells, mode="clip")
    low = _blend(flat, points, axis + 1, offset)
    high = _blend(flat, points, axis + 1, offset + points.strides[axis])
    high -= low
    high *= points.fractions[axis]
    low += high
    return low


def _sample_along_axes(images: Floats, axes: Sequence[Axis], out: Floats) -> None:
    """Interpolate axis by axis, some planes at a time."""
    first, *others = axes
    step = max(1, PIECE // prod(images.shape[2:]))
    for image, result in zip(images, out, strict=True):
        for begin in range(0, len(first.low), step):
            part = slice(begin, begin + step)
            piece = _between(image, first.low[part], first.fraction[part], 0)
            for number, axis in enumerate(others, 1):
                piece = _between(piece, axis.low, axis.fraction, number)
            result[part] = piece


def _between(array: Floats, low: Indices, fraction: Floats, axis: int) -> Floats:
    before = array.take(low, axis=axis)
    after = array.take(low + 1, axis=axis)
    after -= before
    after *= fraction.reshape((-1,) + (1,) * (array.ndim - axis - 1))
    before += after
    return before
