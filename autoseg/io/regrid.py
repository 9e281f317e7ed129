"""A label map or channel brought onto the grid of its image, by world coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the name everybody knows

from autoseg.core.geometry import Geometry


def resample_onto(
    array: npt.NDArray[Any],
    geometry: Geometry,
    target: Geometry,
    *,
    is_label: bool,
    outside: float,
) -> npt.NDArray[Any]:
    """Resample one array onto another grid.

    Args:
        array: numbers ``(z, y, x)``.
        geometry: where they lie.
        target: where they are wanted.
        is_label: take the nearest voxel's value, which makes no new ones, instead of
            interpolating linearly.
        outside: value of what the array does not cover.

    Returns:
        The same type, in the shape of ``target``.
    """
    resample = sitk.ResampleImageFilter()
    resample.SetReferenceImage(_to_itk(np.zeros(target.shape, np.uint8), target))
    resample.SetInterpolator(sitk.sitkNearestNeighbor if is_label else sitk.sitkLinear)
    resample.SetDefaultPixelValue(float(outside))
    return sitk.GetArrayFromImage(resample.Execute(_to_itk(array, geometry)))


def _to_itk(array: npt.NDArray[Any], geometry: Geometry) -> sitk.Image:
    # Always three axes: a single slice takes part in the world like any other.
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin[::-1])
    image.SetDirection(np.asarray(geometry.direction)[::-1, ::-1].ravel().tolist())
    return image
