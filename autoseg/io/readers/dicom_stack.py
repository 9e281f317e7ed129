"""How DICOM slices lie in space, and whether they make a regular grid.

What no grid can hold (a tilted gantry, gaps, several time points) is refused here: read as if
it were regular, it would put a segmentation in the wrong place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, degrees
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry, Matrix, Triple
from autoseg.errors import DataError
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM

_SAME_PLACE_MM = 1e-3
_LARGEST_SHIFT_VOX = 0.1
_LARGEST_COSINE_ERROR = 1e-3
_LARGEST_SPACING_ERROR = 1e-3
_CONVERT = "convert it to NIfTI with a tool that knows this scanner, such as dcm2niix"

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where a slice or frame lies, as DICOM says it: x, y, z in LPS mm; None is not said.

    Attributes:
        position: ImagePositionPatient, the centre of the first voxel.
        orientation: ImageOrientationPatient, directions along a row and down a column.
        pixel_spacing: distance of rows, distance of columns in mm.
        thickness: distance of slices, or thickness of one, in mm.
        tilt: the gantry's, in degrees.
    """

    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    thickness: float | None
    tilt: float | None


def stack(
    planes: Sequence[Plane], size: tuple[int, int], place: Path
) -> tuple[list[int], Geometry]:
    """Put slices in order along their normal, row direction x column direction.

    Args:
        planes: at least one, in any order.
        size: rows and columns of each.
        place: the file or folder, for messages.

    Returns:
        Indices into ``planes`` in order of rising position, and the grid they make.

    Raises:
        DataError: if they make none.
    """
    y, x = _pixel_spacing(planes, place)
    if len(planes) == 1:
        thickness = planes[0].thickness or SINGLE_SLICE_SPACING_MM
        axes = _axes(planes, place) if planes[0].orientation is not None else np.eye(3)
        return [0], _geometry((1, *size), (thickness, y, x), planes[0].position, axes, place)
    positions = _positions(planes, place)
    axes = _axes(planes, place)
    along = positions @ axes[2]
    order = np.argsort(along, kind="stable")
    _refuse_shared_positions(along[order], place)
    _refuse_tilt(positions[order], axes, min(y, x), planes[0].tilt, place)
    spacing = _slice_spacing(along[order], place)
    first = tuple(positions[order[0]])
    shape = (len(planes), *size)
    return order.tolist(), _geometry(shape, (spacing, y, x), first, axes, place)


def num_orientations(planes: Sequence[Plane]) -> int:
    """How many orientations slices have; those of a scout or localiser have several."""
    different: list[Array] = []
    for orientation in {plane.orientation for plane in planes}:
        cosines = np.asarray(orientation or np.zeros(6))
        if all(np.abs(cosines - other).max() > _LARGEST_COSINE_ERROR for other in different):
            different.append(cosines)
    return len(different)


def _pixel_spacing(planes: Sequence[Plane], place: Path) -> tuple[float, float]:
    first = planes[0].pixel_spacing
    for spacing in {plane.pixel_spacing for plane in planes}:
        if spacing is None or first is None:
            raise DataError("the size of a pixel is not given", place=place, remedy=_CONVERT)
        if not np.allclose(spacing, first, rtol=_LARGEST_SPACING_ERROR, atol=0):
            raise DataError(
                f"slices of different pixel spacing, {_mm(first)} and {_mm(spacing)}",
                place=place,
                remedy="give each volume a folder of its own",
            )
    assert first is not None
    return first[0], first[1]


def _positions(planes: Sequence[Plane], place: Path) -> Array:
    placed = [plane.position for plane in planes if plane.position and plane.orientation]
    if len(placed) < len(planes):
        raise DataError(
            f"{len(planes) - len(placed)} of {len(planes)} slices do not say where they lie "
            "(ImagePositionPatient and ImageOrientationPatient)",
            place=place,
            remedy=_CONVERT,
        )
    return np.asarray(placed, dtype=np.float64)


def _axes(planes: Sequence[Plane], place: Path) -> Array:
    """Unit vectors (rows) along a row, down a column and along the normal, in x, y, z."""
    count = num_orientations(planes)
    if count > 1:
        raise DataError(
            f"its {len(planes)} slices have {count} orientations, as those of a localiser",
            place=place,
            remedy="keep the slices of one orientation in this folder",
        )
    axes = np.asarray(planes[0].orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    is_frame = np.allclose(lengths, 1, atol=0.01) and abs(axes[0] @ axes[1]) < 0.01
    if not is_frame:
        raise DataError(
            f"ImageOrientationPatient {planes[0].orientation} is no pair of perpendicular "
            "directions",
            place=place,
            remedy=_CONVERT,
        )
    row, column = axes / lengths[:, np.newaxis]
    normal = np.cross(row, column)
    return np.stack([row, column, normal / np.linalg.norm(normal)])


def _refuse_shared_positions(along: Array, place: Path) -> None:
    starts = np.concatenate([[True], np.diff(along) > _SAME_PLACE_MM])
    counts = Counter(np.cumsum(starts).tolist())
    most = max(counts.values())
    if most == 1:
        return
    if set(counts.values()) == {most}:
        finding = (
            f"{most} slices at each of {len(counts)} positions, so {most} volumes "
            "(time points, echoes or phases)"
        )
    else:
        finding = f"up to {most} slices at one position ({len(along)} at {len(counts)} positions)"
    raise DataError(finding, place=place, remedy="give each volume a folder of its own")


def _refuse_tilt(
    positions: Array, axes: Array, pixel_mm: float, tilt: float | None, place: Path
) -> None:
    offsets = positions - positions[0]
    along = offsets @ axes[2]
    shifts = np.linalg.norm(offsets - along[:, np.newaxis] * axes[2], axis=1)
    worst = int(shifts.argmax())
    if shifts[worst] <= _LARGEST_SHIFT_VOX * pixel_mm:
        return
    angle = degrees(atan2(shifts[worst], along[worst]))
    said = f"; GantryDetectorTilt says {tilt:g}" if tilt else ""
    raise DataError(
        f"slices are shifted sideways by up to {shifts[worst]:.3g} mm, a gantry tilt of "
        f"{angle:.1f} degrees{said}",
        place=place,
        remedy="correct it when converting to NIfTI, for instance with dcm2niix",
    )


def _slice_spacing(along: Array, place: Path) -> float:
    """Distance of slices at rising positions, if it is the same between all."""
    gaps = np.diff(along)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    steps = np.rint(gaps / usual)
    is_multiple = bool((np.abs(gaps - steps * usual) <= _LARGEST_SHIFT_VOX * usual).all())
    if is_multiple and steps.min() >= 1 and steps.max() > 1:
        holes = [
            f"{int(steps[i]) - 1} between {along[i]:g} and {along[i + 1]:g} mm"
            for i in np.flatnonzero(steps > 1)
        ]
        more = f" and {len(holes) - 3} more gaps" if len(holes) > 3 else ""
        count = int(steps.sum()) - len(steps)
        raise DataError(
            f"{count} slice{'s are' if count > 1 else ' is'} missing along the normal "
            f"({', '.join(holes[:3])}{more}; the others are {usual:g} mm apart)",
            place=place,
            remedy="copy or export the whole series again",
        )
    spacing = float(along[-1] - along[0]) / len(gaps)
    regular = along[0] + spacing * np.arange(len(along))
    if np.abs(along - regular).max() > _LARGEST_SHIFT_VOX * spacing:
        raise DataError(
            f"slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart, not evenly",
            place=place,
            remedy=_CONVERT + ", and resample it",
        )
    return spacing


def _geometry(
    shape: tuple[int, ...],
    spacing: Triple,
    position: tuple[float, ...] | None,
    axes: Array,
    place: Path,
) -> Geometry:
    z, y, x = shape
    left, posterior, superior = position or (0.0, 0.0, 0.0)
    matrix = axes.T[::-1, ::-1]
    rows = tuple(tuple(float(value) for value in row) for row in matrix)
    try:
        return Geometry(
            shape=(z, y, x),
            spacing=spacing,
            origin=(float(superior), float(posterior), float(left)),
            direction=cast("Matrix", rows),
        )
    except ValueError as error:
        raise DataError(str(error), place=place) from error


def _mm(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values) + " mm"
