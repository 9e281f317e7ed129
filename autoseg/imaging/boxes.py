"""Boxes of voxels: find them, cut them out, paste them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import cc3d
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A half-open box of voxels.

    Args:
        lower: first voxel per axis.
        upper: one past the last voxel per axis.
    """

    lower: tuple[int, ...]
    upper: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Self:
        """The box that holds every voxel of an array of this shape."""
        return cls(lower=(0,) * len(shape), upper=tuple(shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels per axis."""
        return tuple(high - low for low, high in zip(self.lower, self.upper, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index of the spatial axes."""
        return tuple(map(slice, self.lower, self.upper))


def nonzero_mask(image: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Where an image has content: not exactly 0 in some channel, holes filled.

    A hole is a region of zeros from which no path over voxel faces leads to the border.

    Args:
        image: ``(channels, z, y, x)``.

    Returns:
        bool, ``(z, y, x)``.
    """
    mask = image[0] != 0
    for channel in image[1:]:
        mask |= channel != 0
    # Zeros on a face of the bounding box are no holes, so what lies outside it never matters.
    _fill_holes(crop(mask, bounding_box(mask)))
    return mask


def _fill_holes(mask: npt.NDArray[np.bool_]) -> None:
    """Set every hole of a mask, in place."""
    faces = [mask.take((0, -1), axis=axis) for axis in range(mask.ndim)]
    if all(face.all() for face in faces):  # no way in: every zero is a hole, as in most CTs
        mask[...] = True
        return
    components, count = cc3d.connected_components(~mask, connectivity=6, return_N=True)
    is_open = np.zeros(count + 1, dtype=bool)
    for axis in range(mask.ndim):
        is_open[components.take((0, -1), axis=axis)] = True
    is_open[0] = False
    np.logical_not(is_open[components], out=mask)


def bounding_box(mask: npt.NDArray[np.bool_]) -> Box:
    """The smallest box that holds every True voxel.

    Args:
        mask: bool, any number of axes.

    Returns:
        The box; the whole array if no voxel is True.
    """
    box = Box.whole(mask.shape)
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        # Each axis searches only what the axes before it left.
        occupied = np.flatnonzero(crop(mask, box).any(axis=others))
        if occupied.size == 0:
            return box
        box = _narrowed(box, axis, int(occupied[0]), int(occupied[-1]) + 1)
    return box


def _narrowed(box: Box, axis: int, low: int, high: int) -> Box:
    lower, upper = list(box.lower), list(box.upper)
    lower[axis], upper[axis] = low, high
    return Box(lower=tuple(lower), upper=tuple(upper))


def crop(array: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """The part of an array inside a box.

    Args:
        array: ``(..., *spatial)``; as many spatial axes as the box has.
        box: within the array.

    Returns:
        A view, ``(..., *box.shape)``.
    """
    return array[(..., *box.slices)]


def paste(target: npt.NDArray[Any], box: Box, content: npt.ArrayLike) -> None:
    """Write into the part of an array inside a box, in place.

    Args:
        target: ``(..., *spatial)``.
        box: within the array.
        content: ``(..., *box.shape)``, or what broadcasts to it.
    """
    target[(..., *box.slices)] = content


def read_padded(
    array: npt.NDArray[Any], lower: Sequence[int], size: Sequence[int], fill: float
) -> npt.NDArray[Any]:
    """Copy a box that may reach beyond the array, or miss it altogether.

    The reference returns zeros, whatever the fill, for a box wholly outside; this does not.

    Args:
        array: ``(..., *spatial)``.
        lower: first voxel of the box per spatial axis, negative beyond the border.
        size: voxels of the box per spatial axis.
        fill: value of voxels outside the array.

    Returns:
        A new array ``(..., *size)`` of the same dtype.
    """
    shape = array.shape[array.ndim - len(size) :]
    result = np.full((*array.shape[: array.ndim - len(size)], *size), fill, dtype=array.dtype)
    inside = Box(
        lower=tuple(np.clip(lower, 0, shape).tolist()),
        upper=tuple(np.clip(np.add(lower, size), 0, shape).tolist()),
    )
    if min(inside.shape) > 0:
        start = [i - low for i, low in zip(inside.lower, lower, strict=True)]
        stop = [i - low for i, low in zip(inside.upper, lower, strict=True)]
        paste(result, Box(lower=tuple(start), upper=tuple(stop)), crop(array, inside))
    return result
