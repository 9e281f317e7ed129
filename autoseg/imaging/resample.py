"""Resampling of images and network outputs, as the reference does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Shape, Triple
from autoseg.imaging.operators import AnyFloats
from autoseg.imaging.resizer import Resizer, ValueRange

ANISOTROPY = 3.0
"""Ratio of largest to smallest spacing beyond which the coarse axis is treated apart."""

_COARSEST_TOLERANCE = 1e-3


def destination(
    out: npt.NDArray[Any] | None, shape: Sequence[int], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Where a result is written: an array that is there already, or a new one.

    Args:
        out: the array; None for a new one.
        shape: of the result.
        dtype: of a new array.

    Raises:
        ValueError: if ``out`` has another shape.
    """
    if out is None:
        return np.empty(tuple(shape), dtype=dtype)
    if out.shape != tuple(shape):
        raise ValueError(f"the result is {tuple(shape)}, but out is {out.shape}")
    return out


def unchanged(array: npt.NDArray[Any], out: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """The result of resizing an array to the size it has: itself, or ``out`` with a copy.

    Args:
        array: any.
        out: what to copy it into; None to return it as it is.

    Raises:
        ValueError: if ``out`` has another shape.
    """
    if out is None:
        return array
    out = destination(out, array.shape, array.dtype)
    np.copyto(out, array, casting="same_kind")
    return out


def resize(
    array: AnyFloats,
    shape: Sequence[int],
    order: int | Sequence[int],
    out: AnyFloats | None = None,
) -> AnyFloats:
    """Resize the last axes of an array; see ``axis_operator`` for what that means.

    Values may overshoot the input's range at order 3.

    Args:
        array: float16 or float32 ``(..., *spatial)``, in any memory layout.
        shape: new sizes of the spatial axes, one or more.
        order: 0, 1 or 3, for all spatial axes or one per axis.
        out: float16 or float32 ``(..., *shape)``, what to write into; None for a new array.

    Returns:
        ``out``, or a new float32 array, or the array itself if its sizes are those already.

    Raises:
        ValueError: if ``out`` has another shape.
    """
    leading, spatial = array.shape[: -len(shape)], array.shape[-len(shape) :]
    if spatial == tuple(shape):
        return unchanged(array, out)
    out = destination(out, (*leading, *shape), np.float32)
    orders = (order,) * len(shape) if isinstance(order, int) else order
    resizer = Resizer(spatial, shape, orders)
    for index in np.ndindex(leading):
        _resize_volume(resizer, array[index], out[index])
    return out


def _resize_volume(
    resizer: Resizer, source: AnyFloats, out: AnyFloats, within: ValueRange | None = None
) -> None:
    for slab in resizer.slabs:
        resizer.slab(slab, source[slab.window], out[slab.rows], within)


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
    image: AnyFloats,
    shape: Shape,
    current_spacing: Triple,
    target_spacing: Triple,
    order: int = 3,
    out: AnyFloats | None = None,
) -> AnyFloats:
    """Resample intensities.

    A coarse axis takes the nearest slice, each resized on its own. Values stay within the range
    of their channel, with a coarse axis within that of their slice.

    Args:
        image: float16 or float32 ``(channels, z, y, x)``, in any memory layout.
        shape: target shape, ``(z, y, x)``.
        current_spacing: mm.
        target_spacing: mm.
        order: 0, 1 or 3.
        out: float16 or float32 ``(channels, *shape)``, what to write into; None for a new array.

    Returns:
        ``out``, or a new float32 array, or the image itself if it has that shape already.

    Raises:
        ValueError: if ``out`` has another shape.
    """
    if image.shape[1:] == tuple(shape):
        return unchanged(image, out)
    coarse = coarse_axis(current_spacing, target_spacing)
    out = destination(out, (len(image), *shape), np.float32)
    resizer = Resizer(image.shape[1:], shape, axis_orders(order, coarse))
    for source, result in zip(image, out, strict=True):
        within = ValueRange.of(source, coarse) if order > 1 else None
        _resize_volume(resizer, source, result, within)
    return out


def resample_logits(
    logits: AnyFloats,
    shape: Shape,
    current_spacing: Triple,
    target_spacing: Triple,
    out: AnyFloats | None = None,
) -> AnyFloats:
    """Resample network outputs: linear, along a coarse axis nearest.

    Args:
        logits: float16 or float32 ``(classes, z, y, x)``, in any memory layout.
        shape: target shape, ``(z, y, x)``.
        current_spacing: mm.
        target_spacing: mm.
        out: float16 or float32 ``(classes, *shape)``, what to write into; None for a new array.

    Returns:
        ``out``, or a new float32 array, or the logits themselves if they have that shape already.

    Raises:
        ValueError: if ``out`` has another shape.
    """
    orders = axis_orders(1, coarse_axis(current_spacing, target_spacing))
    return resize(logits, shape, orders, out)
