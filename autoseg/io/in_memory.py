"""Images that a program holds already: arrays and images of SimpleITK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry, Triple
from autoseg.core.image import Image
from autoseg.errors import DataError
from autoseg.io.images import finite_float32
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM

_PIXEL = (1.0, 1.0)
_HOW = "write predict(array, spacing=(z, y, x)), or (y, x) for a 2D image, in mm"


def image_from_array(array: npt.NDArray[Any], spacing: Sequence[float] | None) -> Image:
    """An image of an array, upright and at the world's origin; the array may change afterwards.

    Args:
        array: numbers of any real type: ``(channels, z, y, x)`` or, of one channel, ``(z, y, x)``;
            with two spacings ``(channels, y, x)`` or ``(y, x)``.
        spacing: distance of voxel centres in mm, three numbers of a volume, two of a 2D image;
            None for a 2D image whose size does not matter.

    Raises:
        DataError: if axes and spacing do not fit, or values are no finite real numbers.
    """
    if spacing is None and array.ndim != 2:
        raise DataError(f"an array of {array.ndim} axes needs its spacing", remedy=_HOW)
    steps = _PIXEL if spacing is None else _numbers(spacing)
    if len(steps) not in (2, 3):
        raise DataError(f"a spacing of {len(steps)} numbers", remedy=_HOW)
    if array.ndim not in (len(steps), len(steps) + 1):
        raise DataError(
            f"an array of {array.ndim} axes and a spacing of {len(steps)} numbers do not fit",
            remedy=_HOW,
        )
    if array.dtype.kind not in "biuf":
        raise DataError(f"values must be real numbers, but are {array.dtype}")
    channels = array if array.ndim == len(steps) + 1 else array[np.newaxis]
    if len(steps) == 2:
        channels = channels[:, np.newaxis]
    z, y, x = (SINGLE_SLICE_SPACING_MM, *steps)[-3:]
    return own_image(_image(channels, (z, y, x)), array)


def _numbers(spacing: Sequence[float]) -> tuple[float, ...]:
    """Whatever a caller took for a spacing, as numbers."""
    # Of a text every digit would be a number.
    if isinstance(spacing, str):
        raise DataError(f"a spacing of {spacing!r:.40}", remedy=_HOW)
    try:
        return tuple(map(float, spacing))
    except (TypeError, ValueError):
        raise DataError(f"a spacing of {spacing!r:.40}", remedy=_HOW) from None


def own_image(image: Image, array: npt.NDArray[Any]) -> Image:
    """An image that stays as it is when somebody changes an array.

    Args:
        image: whose voxels may be those of the array.
        array: a caller's.
    """
    if not np.may_share_memory(image.array, array):
        return image
    return replace(image, array=image.array.copy())


def _image(channels: npt.NDArray[Any], spacing: Triple) -> Image:
    depth, rows, columns = channels.shape[1:]
    try:
        geometry = Geometry(shape=(depth, rows, columns), spacing=spacing)
    except ValueError as error:
        raise DataError(str(error)) from error
    return Image(array=np.ascontiguousarray(finite_float32(channels)), geometry=geometry)


@runtime_checkable
class ItkImage(Protocol):
    """An image of SimpleITK, which need not be imported to know one."""

    def GetDimension(self) -> int: ...  # noqa: D102, N802 - SimpleITK's names
    def GetSize(self) -> tuple[int, ...]: ...  # noqa: D102, N802
    def GetSpacing(self) -> tuple[float, ...]: ...  # noqa: D102, N802
    def GetOrigin(self) -> tuple[float, ...]: ...  # noqa: D102, N802
    def GetDirection(self) -> tuple[float, ...]: ...  # noqa: D102, N802
    def GetNumberOfComponentsPerPixel(self) -> int: ...  # noqa: D102, N802


def image_from_itk(image: ItkImage) -> Image:
    """An image of SimpleITK with its place in the world.

    Args:
        image: of two or three dimensions, or of four, the last of which is the channels;
            components of a vector are channels, too.

    Raises:
        DataError: if it has another number of dimensions, is no grid, or its values are no finite
            real numbers.
    """
    import SimpleITK as sitk  # noqa: N813 - the name everybody knows

    from autoseg.io.readers.itk import geometry_of

    if image.GetDimension() not in (2, 3, 4):
        raise DataError(f"has {image.GetDimension()} dimensions, not 2, 3 or, with channels, 4")
    # The protocol stands for SimpleITK's own class, which is imported only here.
    whole = cast("sitk.Image", image)
    array = sitk.GetArrayFromImage(whole)
    if array.dtype.kind not in "biuf":
        raise DataError(f"values must be real numbers, but are {array.dtype}")
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    try:
        geometry = geometry_of(whole)
    except ValueError as error:
        raise DataError(str(error)) from error
    channels = array.reshape(-1, *geometry.shape)
    return Image(array=np.ascontiguousarray(finite_float32(channels)), geometry=geometry)
