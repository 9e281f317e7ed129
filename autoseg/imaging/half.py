"""Half precision in and out, by the bits: numpy's own conversion takes twice to five times as long.

A half has the sign in bit 15, five bits of exponent and ten of mantissa; a float32 has the sign
in bit 31, eight and 23. Their exponents count from different numbers, 112 apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autoseg.imaging.operators import AnyFloats, Floats

_EXPONENT = 0x7C00
_MANTISSA_SHIFT = 13
_SIGN = np.int16(-0x8000)
_EXPONENT_OFFSET = np.float32(2.0**112)
_OVERFLOW = 65520.0
"""The least number that is rounded to infinity."""


def as_float32(array: AnyFloats) -> Floats:
    """The array as float32; itself if it is that already.

    Args:
        array: float16 or float32, at least one axis, in any memory layout.
    """
    if array.dtype != np.float16:
        return array.astype(np.float32, copy=False)
    result = np.empty(array.shape, dtype=np.float32)
    read(array, result)
    return result


def read(values: AnyFloats, out: Floats) -> None:
    """Copy numbers of either type into a float32 array.

    Args:
        values: float16 or float32, at least one axis, in any memory layout.
        out: float32 of the same shape.
    """
    if values.dtype != np.float16:
        out[...] = values
        return
    for plane, numbers in zip(out, values, strict=True):
        _widen(numbers, plane)


def write(values: Floats, out: AnyFloats) -> None:
    """Write float32 numbers into an array of either type.

    Args:
        values: float32, contiguous.
        out: float16 or float32, what values broadcast to. Halves are rounded to the nearest;
            below 6e-5 they may be one step (6e-8) off, because they are rounded twice.
    """
    if out.dtype != np.float16:
        out[...] = values
        return
    halves = out if out.shape == values.shape else np.empty(values.shape, dtype=np.float16)
    for plane, numbers in zip(halves, values, strict=True):
        _narrow(numbers, plane)
    if halves is not out:
        out[...] = halves


def _widen(values: npt.NDArray[np.float16], result: Floats) -> None:
    bits, wide = values.view(np.int16), result.view(np.int32)
    if ((bits & _EXPONENT) == _EXPONENT).any():  # infinite, or not a number
        result[...] = values
        return
    # Sign, exponent and mantissa go to their places; the sign's copies in between go away.
    wide[...] = bits
    np.left_shift(wide, _MANTISSA_SHIFT, out=wide)
    np.bitwise_and(wide, ~0x70000000, out=wide)
    np.multiply(result, _EXPONENT_OFFSET, out=result)


def _narrow(values: Floats, result: npt.NDArray[np.float16]) -> None:
    if values.size == 0 or not -_OVERFLOW < values.min() <= values.max() < _OVERFLOW:
        with np.errstate(over="ignore"):  # becomes infinite, as it should
            result[...] = values
        return
    wide = np.multiply(values, 1 / _EXPONENT_OFFSET).view(np.int32)
    # To the nearest, of two equally near to the even one: add just below half a step, or half.
    rounded = np.right_shift(wide, _MANTISSA_SHIFT)
    rounded &= 1
    rounded += (1 << (_MANTISSA_SHIFT - 1)) - 1
    rounded += wide
    rounded >>= _MANTISSA_SHIFT
    bits = result.view(np.int16)
    bits[...] = rounded
    bits |= (wide >> 16).astype(np.int16) & _SIGN
