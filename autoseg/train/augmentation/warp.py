"""Rotation, scaling and shift of patches: what is drawn, what must be read for it, the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import radians

import numpy as np
import numpy.typing as npt

from autoseg.train.augmentation.grid import Floats, Grid
from autoseg.train.augmentation.interpolation import sample
from autoseg.train.augmentation.label_interpolation import Labels

# Positions are single precision: a point on the border of the box must not fall out of it.
_SLACK_VOX = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpRange:
    """How patches may be rotated, scaled and shifted.

    Attributes:
        rotation_degrees: largest angle about each axis.
        rotation_share: share of the samples that are rotated.
        axis_share: share of the rotated samples that are rotated about an axis, for each axis.
        scale_range: of the factor coordinates are multiplied with; above 1 objects shrink.
        scale_share: share of the samples that are scaled.
        is_isotropic: whether all axes get one factor; else each its own.
        shift_vox: largest shift per axis of the patch, for every sample; 0 for none.
    """

    rotation_degrees: float
    rotation_share: float
    axis_share: float = 1.0
    scale_range: tuple[float, float]
    scale_share: float
    is_isotropic: bool = True
    shift_vox: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """A drawn rotation, scaling and shift about the centre of a patch.

    Attributes:
        angles: radians about each axis; a single one in a plane.
        scales: coordinates are multiplied with them, per axis; above 1 objects shrink.
        shift_vox: the content moves by as much towards lower indices, per axis.
    """

    angles: tuple[float, ...]
    scales: tuple[float, ...]
    shift_vox: tuple[float, ...]

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """From coordinates of the result, from its centre, to those of the source, ``(d, d)``.

        ``Rz @ Ry @ Rx @ diag(scales)``, the first axis being x; in a plane ``R @ diag(scales)``.
        """
        rotations = _axis_rotations(self.angles)
        matrix = np.eye(len(self.scales))
        for rotation in rotations:
            matrix = rotation @ matrix
        return matrix @ np.diag(self.scales)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What to read of a case.

    Attributes:
        lower: its first voxel, counted from the first voxel of the patch.
        size: its voxels per axis.
    """

    lower: tuple[int, ...]
    size: tuple[int, ...]


def draw_warp(allowed: WarpRange, dimensions: int, rng: np.random.Generator) -> Warp | None:
    """Draw what happens to a sample.

    Args:
        allowed: what may happen.
        dimensions: 3, or 2 for a plane.
        rng: source of randomness.

    Returns:
        None if nothing does: then the plain patch is all that must be read.
    """
    rotates, scales = rng.random(2) < (allowed.rotation_share, allowed.scale_share)
    shifts = any(allowed.shift_vox)
    if not (rotates or scales or shifts):
        return None
    num_angles = 3 if dimensions == 3 else 1
    angles, factors, moves = np.zeros(num_angles), np.ones(dimensions), np.zeros(dimensions)
    if rotates:
        limit = radians(allowed.rotation_degrees)
        angles = rng.uniform(-limit, limit, num_angles)
        angles *= rng.random(num_angles) < allowed.axis_share
    if scales:
        factors *= rng.uniform(*allowed.scale_range, 1 if allowed.is_isotropic else dimensions)
    if shifts:
        furthest = np.asarray(allowed.shift_vox[-dimensions:])
        moves = rng.uniform(-furthest, furthest)
    return Warp(
        angles=tuple(angles.tolist()),
        scales=tuple(factors.tolist()),
        shift_vox=tuple(moves.tolist()),
    )


def source_box(warp: Warp, patch_size: Sequence[int]) -> Box:
    """The smallest box that holds all a warped patch is made of.

    The reference reads a box of one size, made for the largest angle about a single axis, and
    fills with zeros what a sample needs beyond it. Here only what lies outside the case is 0.

    Args:
        warp: the drawn warp.
        patch_size: of the result, two or three sizes; the first of three is left alone by a
            warp in a plane.
    """
    size = np.asarray(patch_size[-len(warp.scales) :])
    centre = (size - 1) / 2
    reach = np.abs(warp.matrix) @ centre
    middle = centre + warp.shift_vox
    lower = np.floor(middle - reach - _SLACK_VOX).astype(int)
    upper = np.floor(middle + reach + _SLACK_VOX).astype(int) + 2
    untouched = len(patch_size) - len(size)
    return Box(
        lower=(0,) * untouched + tuple(lower.tolist()),
        size=(*patch_size[:untouched], *(upper - lower).tolist()),
    )


def warp_patch(
    image: Floats, labels: Labels, warp: Warp, patch_size: Sequence[int]
) -> tuple[Floats, Labels]:
    """Rotate, scale and shift: images linearly, labels by the strongest label.

    Args:
        image: ``(channels, *box)`` with the size that ``source_box`` tells.
        labels: ``box``, or several maps ``(maps, *box)``.
        warp: the drawn warp.
        patch_size: of the result.

    Returns:
        Image ``(channels, *patch_size)`` and labels ``patch_size``, or ``(maps, *patch_size)``.

    Raises:
        ValueError: if the arrays have another size.
    """
    patch, dimensions = tuple(patch_size), len(warp.scales)
    box = source_box(warp, patch)
    maps = labels.shape[: -len(patch)]
    if labels.shape != (*maps, *box.size) or image.shape[1:] != box.size:
        raise ValueError(f"the warp needs {box.size}, got {image.shape} and {labels.shape}")
    plane, grid = box.size[-dimensions:], grid_of(warp, patch)
    warped, warped_labels = sample(image.reshape(-1, *plane), labels.reshape(-1, *plane), grid)
    return warped.reshape(len(image), *patch), warped_labels.reshape(*maps, *patch)


def grid_of(warp: Warp, patch_size: Sequence[int]) -> Grid:
    """Where the voxels of a warped patch lie in the box that ``source_box`` tells.

    Args:
        warp: the drawn warp.
        patch_size: of the result; the axes the warp leaves alone are no axes of the grid.
    """
    dimensions = len(warp.scales)
    plane = tuple(patch_size[-dimensions:])
    lower = source_box(warp, patch_size).lower[-dimensions:]
    centre = (np.asarray(plane) - 1) / 2
    middle = centre + warp.shift_vox - lower
    matrix = warp.matrix
    return Grid(matrix=matrix, origin=middle - matrix @ centre, shape=plane)


def _axis_rotations(angles: Sequence[float]) -> list[npt.NDArray[np.float64]]:
    turns = [(np.cos(angle), np.sin(angle)) for angle in angles]
    if len(turns) == 1:
        ((cos, sin),) = turns
        return [np.array([[cos, -sin], [sin, cos]])]
    (cx, sx), (cy, sy), (cz, sz) = turns
    return [
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]),
        np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]),
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]),
    ]
