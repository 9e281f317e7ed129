"""Whether two files of one case lie on one grid, and if not, what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry, Matrix, Triple

NOISE_VOX = 1e-3
"""Corners closer than this are the same: headers are rounded."""

SLIGHT_VOX = 0.1
"""Corners closer than this do not spoil a segmentation."""

_AXES = "zyx"
_PARALLEL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """How a grid differs from the one it should be on.

    Attributes:
        kind: ``"shape"``, ``"geometry"`` or ``"geometry-slight"``, as in ``problem.KINDS``.
        finding: what differs and by how much; axes in the order z, y, x.
    """

    kind: str
    finding: str


def find_misfit(image: Geometry, other: Geometry) -> Misfit | None:
    """Compare the grid of a label map or of a channel with that of its image.

    Args:
        image: the grid of the image, or of its first channel.
        other: the grid that should be the same.

    Returns:
        None if no two equal corners are further apart than rounding explains.
    """
    if image.shape != other.shape:
        permuted = sorted(image.shape) == sorted(other.shape)
        hint = "; the axes seem to be permuted" if permuted else ""
        finding = f"shape {_listed(other.shape)}, its image has {_listed(image.shape)}{hint}"
        return Misfit(kind="shape", finding=finding)
    distance = image.distance_vox(other)
    if distance <= NOISE_VOX:
        return None
    kind = "geometry-slight" if distance <= SLIGHT_VOX else "geometry"
    differences = [
        *_turned_axes(image, other),
        *_other_spacing(image, other),
        *_other_origin(image, other),
    ]
    what = ", ".join(differences) or "shape, spacing, origin and direction nearly agree"
    return Misfit(kind=kind, finding=f"{what}; corners up to {distance:.2g} voxels away")


def mirrored_axes(image: Geometry, other: Geometry) -> tuple[int, ...]:
    """Index axes (0 z, 1 y, 2 x) that run the other way in the second grid."""
    cosines = np.diag(_cosines(image, other))
    return tuple(axis for axis in range(3) if cosines[axis] < -_PARALLEL)


def flip(geometry: Geometry, axes: Sequence[int]) -> Geometry:
    """The same box indexed backwards along some axes."""
    corner = np.zeros(3)
    corner[list(axes)] = np.asarray(geometry.shape)[list(axes)] - 1
    direction = np.asarray(geometry.direction, dtype=np.float64)
    direction[:, list(axes)] *= -1
    return replace(
        geometry,
        origin=_triple(geometry.voxel_to_world(corner)),
        direction=_matrix(direction),
    )


def _cosines(image: Geometry, other: Geometry) -> npt.NDArray[np.float64]:
    """Row i, column j: cosine between axis i of the image and axis j of the other."""
    return np.asarray(image.direction, dtype=np.float64).T @ np.asarray(other.direction)


def _turned_axes(image: Geometry, other: Geometry) -> list[str]:
    cosines = _cosines(image, other)
    runs_along = np.abs(cosines).argmax(axis=0)
    if sorted(runs_along) == [0, 1, 2] and list(runs_along) != [0, 1, 2]:
        theirs = ", ".join(_AXES[axis] for axis in runs_along)
        return [f"axes permuted: its z, y, x run along the image's {theirs}"]
    mirrored = mirrored_axes(image, other)
    if mirrored:
        same_box = image.distance_vox(flip(other, mirrored)) <= SLIGHT_VOX
        where = "" if not same_box else " (the same box, indexed backwards)"
        return [f"mirrored along {' and '.join(_AXES[axis] for axis in mirrored)}{where}"]
    turn = np.abs(cosines - np.eye(3)).max()
    reach = max(n * s for n, s in zip(image.shape, image.spacing, strict=True))
    if turn * reach / min(image.spacing) <= NOISE_VOX:
        return []
    angle = np.degrees(np.arccos(np.clip(np.diag(cosines), -1, 1).min()))
    return [f"direction turned by {angle:.2g} degrees"]


def _other_spacing(image: Geometry, other: Geometry) -> list[str]:
    steps = np.abs(np.asarray(other.spacing) / np.asarray(image.spacing) - 1)
    if (steps * np.asarray(image.shape)).max() <= NOISE_VOX:
        return []
    return [f"spacing {_listed(other.spacing)} mm, its image has {_listed(image.spacing)} mm"]


def _other_origin(image: Geometry, other: Geometry) -> list[str]:
    mirrored = mirrored_axes(image, other)
    if mirrored and image.distance_vox(flip(other, mirrored)) <= SLIGHT_VOX:
        return []
    if np.abs(image.world_to_voxel(other.origin)).max() <= NOISE_VOX:
        return []
    shift = np.subtract(other.origin, image.origin)
    return [f"origin off by {_listed(shift)} mm"]


def _listed(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    return f"({', '.join(_rounded(float(value)) for value in values)})"


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{round(value, 4):.6g}"


def _triple(values: npt.NDArray[np.float64]) -> Triple:
    z, y, x = (float(value) for value in values)
    return z, y, x


def _matrix(values: npt.NDArray[np.float64]) -> Matrix:
    return _triple(values[0]), _triple(values[1]), _triple(values[2])
