"""Resizing as one small matrix per axis.

Resizing with a spline of order 0, 1 or 3 is linear and separable, so along one axis it is a
matrix, and a band matrix at that: each output voxel depends on a few neighbours only. Volumes
are resized in slabs along their first axis, each slab by dense products of small blocks of the
bands, which keeps the memory near that of input and output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod, sqrt

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Shape, Triple

Floats = npt.NDArray[np.float32]

ANISOTROPY = 3.0
"""Ratio of largest to smallest spacing beyond which the coarse axis is treated apart."""

_COARSEST_TOLERANCE = 1e-3
_POLE = sqrt(3.0) - 2.0
# A cubic interpolation spline decays by 0.27 per voxel: beyond 12 less than 1e-7 is left.
_REACH = {1: 1, 3: 12}
# Outputs per block: narrow enough to skip most zeros of the band, wide enough for BLAS.
_BLOCK = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisOperator:
    """What a resize does along one axis: ``out[i] = sum_k weights[i, k] * x[first[i] + k]``.

    Args:
        first: int32 ``(size_out,)``, the first input each output depends on; never decreases.
        weights: float32 ``(size_out, taps)``; each row sums to 1.
        size_in: number of inputs.
    """

    first: npt.NDArray[np.int32]
    weights: Floats
    size_in: int

    @property
    def taps(self) -> int:
        """Number of inputs an output depends on."""
        return self.weights.shape[1]

    @property
    def size_out(self) -> int:
        """Number of outputs."""
        return self.weights.shape[0]

    def dense(self) -> Floats:
        """The operator as a float32 matrix ``(size_out, size_in)``."""
        matrix = np.zeros((self.size_out, self.size_in), dtype=np.float32)
        columns = self.first[:, None] + np.arange(self.taps)
        np.put_along_axis(matrix, columns, self.weights, axis=1)
        return matrix

    def part(self, start: int, stop: int) -> tuple[slice, AxisOperator]:
        """The outputs ``start`` to ``stop``, which must not be none.

        Returns:
            The window of inputs they depend on, and the operator from that window to them.
        """
        low, high = int(self.first[start]), int(self.first[stop - 1]) + self.taps
        operator = AxisOperator(
            first=self.first[start:stop] - np.int32(low),
            weights=self.weights[start:stop],
            size_in=high - low,
        )
        return slice(low, high), operator


@lru_cache(maxsize=256)
def axis_operator(size_in: int, size_out: int, order: int) -> AxisOperator:
    """The operator that resizes an axis.

    Output voxel ``i`` samples the input at ``(i + 0.5) * size_in / size_out - 0.5``, that is, the
    outer borders of both grids coincide; beyond its borders the input goes on with its edge
    values. There is no smoothing before shrinking. Equals ``scipy.ndimage.zoom`` with
    ``grid_mode=True, mode="nearest"``.

    Args:
        size_in: number of inputs, at least 1.
        size_out: number of outputs, at least 1.
        order: 0 nearest, 1 linear, 3 cubic interpolation spline.

    Raises:
        ValueError: for another order or a size below 1.
    """
    if size_in < 1 or size_out < 1:
        raise ValueError(f"sizes must be at least 1, got {size_in} and {size_out}")
    if order not in (0, 1, 3):
        raise ValueError(f"order must be 0, 1 or 3, got {order}")
    position = source_positions(size_in, size_out)
    if order == 0:
        nearest = np.clip(np.floor(position + 0.5), 0, size_in - 1).astype(np.int32)
        ones = np.ones((size_out, 1), dtype=np.float32)
        return AxisOperator(first=nearest, weights=ones, size_in=size_in)
    reach = _REACH[order]
    taps = min(2 * reach, size_in)
    index = np.floor(position)[:, None] + np.arange(1 - reach, reach + 1)
    kernel = _hat if order == 1 else _cardinal_cubic
    sampled = kernel(position[:, None] - index)
    first = np.clip(index[:, 0], 0, size_in - taps).astype(np.int32)
    # Inputs beyond the border are copies of the edge: their weight is the edge's.
    column = np.clip(index, 0, size_in - 1).astype(np.int64) - first[:, None]
    weights = np.zeros((size_out, taps))
    np.add.at(weights, (np.arange(size_out)[:, None], column), sampled)
    weights /= weights.sum(axis=1, keepdims=True)
    return AxisOperator(first=first, weights=weights.astype(np.float32), size_in=size_in)


def source_positions(size_in: int, size_out: int) -> npt.NDArray[np.float64]:
    """Where the centres of the outputs lie among the inputs, along one axis.

    Args:
        size_in: voxels before.
        size_out: voxels after.

    Returns:
        float64 ``(size_out,)``, in input voxels; beyond the first and last centre at the borders.
    """
    return (np.arange(size_out, dtype=np.float64) + 0.5) * (size_in / size_out) - 0.5


def _hat(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(0.0, 1.0 - np.abs(distance))


def _cubic_b_spline(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    u = np.abs(distance)
    inner = 2.0 / 3.0 - u * u * (1.0 - u / 2.0)
    tail = np.maximum(0.0, 2.0 - u)
    return np.where(u < 1.0, inner, tail * tail * tail / 6.0)


def _cardinal_cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The cubic spline that is 1 at 0 and 0 at every other integer.

    A sum of B-splines whose coefficients are the impulse response of the spline prefilter.

    References:
        Unser, Splines: a perfect fit for signal and image processing, 1999, eq. 10-11.
    """
    total = np.zeros_like(distance)
    for step in (-1.0, 0.0, 1.0, 2.0):
        node = np.floor(distance) + step
        total += _cubic_b_spline(distance - node) * sqrt(3.0) * _POLE ** np.abs(node)
    return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """Some neighbouring outputs of an operator.

    Args:
        rows: the outputs.
        window: the inputs they depend on.
        matrix: float32 ``(rows, window)``, or None for an axis that stays as it is.
    """

    rows: slice
    window: slice
    matrix: Floats | None


class Resizer:
    """Resizes arrays of one shape to another, slab by slab along the first axis.

    Args:
        shape: of the arrays it resizes.
        new_shape: of the results.
        orders: 0, 1 or 3 per axis; see ``axis_operator``.
    """

    def __init__(
        self, shape: Sequence[int], new_shape: Sequence[int], orders: Sequence[int]
    ) -> None:
        sizes = list(zip(shape, new_shape, orders, strict=True))
        self.slabs: tuple[Band, ...] = tuple(_bands(*sizes[0]))
        changed = [axis for axis in range(1, len(shape)) if shape[axis] != new_shape[axis]]
        # Shrinking axes go first, which keeps what lies between two axes small.
        changed.sort(key=lambda axis: new_shape[axis] / shape[axis])
        self._later = [(axis, _bands(*sizes[axis])) for axis in changed]

    def slab(self, slab: Band, source: Floats) -> Floats:
        """Compute one slab of the result.

        Args:
            slab: one of ``slabs``.
            source: float32, the array to resize cut to ``slab.window`` along its first axis.

        Returns:
            float32, the result cut to ``slab.rows``; the source itself if nothing changes.
        """
        if slab.matrix is not None:
            whole = Band(rows=slice(0, len(slab.matrix)), window=slice(None), matrix=slab.matrix)
            source = _apply([whole], source, axis=0)
        for axis, bands in self._later:
            source = _apply(bands, source, axis)
        return source


def _bands(size_in: int, size_out: int, order: int) -> list[Band]:
    if size_in == size_out:
        return [Band(rows=piece, window=piece, matrix=None) for piece in _pieces(size_out)]
    operator = axis_operator(size_in, size_out, order)
    bands: list[Band] = []
    for rows in _pieces(size_out):
        window, part = operator.part(rows.start, rows.stop)
        bands.append(Band(rows=rows, window=window, matrix=part.dense()))
    return bands


def _pieces(size: int) -> list[slice]:
    """Cut a range into equal pieces of about ``_BLOCK``."""
    count = -(-size // _BLOCK)
    cuts = [size * i // count for i in range(count + 1)]
    return list(map(slice, cuts[:-1], cuts[1:]))


def _apply(bands: Sequence[Band], array: Floats, axis: int) -> Floats:
    """Multiply one axis of an array by a band matrix."""
    size_out = bands[-1].rows.stop
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    source = array.reshape(prod(before), array.shape[axis], prod(after))
    result = np.empty((source.shape[0], size_out, source.shape[2]), dtype=np.float32)
    for band in bands:
        assert band.matrix is not None, "an axis that stays is never multiplied"
        if after:
            np.matmul(band.matrix, source[:, band.window], out=result[:, band.rows])
        else:
            columns = source[:, band.window, 0]
            np.matmul(columns, band.matrix.T, out=result[:, band.rows, 0])
    return result.reshape(*before, size_out, *after)


def resize(array: Floats, shape: Sequence[int], order: int | Sequence[int]) -> Floats:
    """Resize the last axes of an array; see ``axis_operator`` for what that means.

    Values may overshoot the input's range at order 3.

    Args:
        array: float32 ``(..., *spatial)``.
        shape: new sizes of the spatial axes, one or more.
        order: 0, 1 or 3, for all spatial axes or one per axis.

    Returns:
        float32 ``(..., *shape)``; the array itself if its sizes are those already.
    """
    leading, spatial = array.shape[: -len(shape)], array.shape[-len(shape) :]
    if spatial == tuple(shape):
        return array
    orders = (order,) * len(shape) if isinstance(order, int) else order
    resizer = Resizer(spatial, shape, orders)
    volumes = array.reshape(-1, *spatial)
    result = np.empty((len(volumes), *shape), dtype=np.float32)
    for volume, resized in zip(volumes, result, strict=True):
        for slab in resizer.slabs:
            resized[slab.rows] = resizer.slab(slab, volume[slab.window])
    return result.reshape(*leading, *shape)


def coarse_axis(current_spacing: Triple, target_spacing: Triple) -> int | None:
    """The axis along which images are too coarse to interpolate.

    The current spacing decides if it is anisotropic, else the target spacing. Two spacings count
    as equally coarse within one thousandth, where the reference asks for equal floating-point
    numbers and is thus at the mercy of how a file rounds them.

    Args:
        current_spacing: mm, ``(z, y, x)``.
        target_spacing: mm.

    Returns:
        The axis, or None if no or more than one axis is coarse.
    """
    for spacing in (current_spacing, target_spacing):
        if max(spacing) / min(spacing) > ANISOTROPY:
            limit = max(spacing) * (1.0 - _COARSEST_TOLERANCE)
            coarsest = [axis for axis, size in enumerate(spacing) if size >= limit]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def axis_orders(order: int, coarse: int | None) -> tuple[int, int, int]:
    """The interpolation order per axis: nearest along the coarse one.

    Args:
        order: of the other axes.
        coarse: what ``coarse_axis`` found.
    """
    z, y, x = (0 if axis == coarse else order for axis in range(3))
    return z, y, x


def resample_image(
    image: Floats,
    shape: Shape,
    current_spacing: Triple,
    target_spacing: Triple,
    order: int = 3,
) -> Floats:
    """Resample intensities.

    A coarse axis takes the nearest slice, each resized on its own. Values stay within the range
    of their channel, with a coarse axis within that of their slice.

    Args:
        image: float32 ``(channels, z, y, x)``.
        shape: target shape, ``(z, y, x)``.
        current_spacing: mm.
        target_spacing: mm.
        order: 0, 1 or 3.

    Returns:
        float32 ``(channels, *shape)``; the image itself if it has that shape already.
    """
    if image.shape[1:] == tuple(shape):
        return image
    coarse = coarse_axis(current_spacing, target_spacing)
    resampled = resize(image, shape, axis_orders(order, coarse))
    if order > 1:
        for source, result in zip(image, resampled, strict=True):
            _clip_to_range(result, source, coarse)
    return resampled


def _clip_to_range(result: Floats, source: Floats, coarse: int | None) -> None:
    """Clip a resized volume to the range of its source, per slice of the coarse axis if any."""
    axes = tuple(axis for axis in range(3) if axis != coarse)
    low, high = source.min(axis=axes, keepdims=True), source.max(axis=axes, keepdims=True)
    if coarse is not None:
        nearest = axis_operator(source.shape[coarse], result.shape[coarse], 0).first
        low, high = low.take(nearest, axis=coarse), high.take(nearest, axis=coarse)
    np.clip(result, low, high, out=result)


def resample_logits(
    logits: Floats, shape: Shape, current_spacing: Triple, target_spacing: Triple
) -> Floats:
    """Resample network outputs: linear, along a coarse axis nearest.

    Args:
        logits: float32 ``(classes, z, y, x)``.
        shape: target shape, ``(z, y, x)``.
        current_spacing: mm.
        target_spacing: mm.

    Returns:
        float32 ``(classes, *shape)``; the logits themselves if they have that shape already.
    """
    return resize(logits, shape, axis_orders(1, coarse_axis(current_spacing, target_spacing)))
