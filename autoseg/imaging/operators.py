"""Resizing an axis as a small matrix.

Resizing with a spline of order 0, 1 or 3 is linear and separable, so along one axis it is a
matrix, and a band matrix at that: each output voxel depends on a few neighbours only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
AnyFloats = npt.NDArray[Any]
"""float16 or float32; what is computed is float32."""

_POLE = sqrt(3.0) - 2.0
# A cubic interpolation spline decays by 0.27 per voxel: beyond 12 less than 1e-7 is left. With 10,
# products would shrink by a twelfth only, as neighbouring outputs share most of their inputs.
_REACH = {1: 1, 3: 12}


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

    @property
    def growth(self) -> float:
        """Outputs per input."""
        return self.size_out / self.size_in

    @property
    def picks(self) -> bool:
        """Whether every output is one of the inputs."""
        return self.taps == 1

    def window(self, rows: slice) -> slice:
        """The inputs that some outputs depend on."""
        return slice(int(self.first[rows.start]), int(self.first[rows.stop - 1]) + self.taps)

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
        window = self.window(slice(start, stop))
        operator = AxisOperator(
            first=self.first[start:stop] - np.int32(window.start),
            weights=self.weights[start:stop],
            size_in=window.stop - window.start,
        )
        return window, operator


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
