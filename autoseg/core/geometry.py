"""Where a voxel grid lies in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]
Matrix = tuple[Triple, Triple, Triple]

_DIRECTIONS = ("SI", "PA", "LR")
IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A voxel grid in world space.

    Everything is in ``(z, y, x)`` order, index and world alike; the world is LPS in mm, so a
    world point is ``(superior, posterior, left)``.

    Args:
        shape: number of voxels per axis.
        spacing: distance of voxel centres in mm, positive.
        origin: world position of voxel ``(0, 0, 0)`` in mm.
        direction: rows are world axes, columns the unit vectors of the index axes.

    Raises:
        ValueError: if a size or spacing is not positive, or the direction is singular.
    """

    shape: Shape
    spacing: Triple
    origin: Triple = (0.0, 0.0, 0.0)
    direction: Matrix = IDENTITY

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be three positive numbers, got {self.shape}")
        if len(self.spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise ValueError(f"spacing must be three positive numbers, got {self.spacing}")
        determinant = float(np.linalg.det(np.asarray(self.direction, dtype=np.float64)))
        if not np.isfinite(determinant) or abs(determinant) < 1e-6:
            raise ValueError(f"direction must be invertible, got {self.direction}")

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        z, y, x = self.spacing
        return z * y * x / 1000.0

    @property
    def orientation(self) -> str:
        """Where the three axes point, to the nearest anatomical direction, such as ``"SPL"``.

        One letter per axis in the order z, y, x: ``S`` or ``I``, ``P`` or ``A``, ``L`` or ``R``
        for the direction in which its index grows.
        """
        cosines = np.asarray(self.direction, dtype=np.float64)
        letters: list[str] = []
        for column in cosines.T:
            world = int(np.argmax(np.abs(column)))
            letters.append(_DIRECTIONS[world][0 if column[world] > 0 else 1])
        return "".join(letters)

    def voxel_to_world(self, indices: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """World positions of (fractional) voxel indices.

        Args:
            indices: ``(..., 3)`` in voxels.

        Returns:
            ``(..., 3)`` float64 in mm.
        """
        scaled = np.asarray(indices, dtype=np.float64) * np.asarray(self.spacing)
        return scaled @ np.asarray(self.direction).T + np.asarray(self.origin)

    def world_to_voxel(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Fractional voxel indices of world positions; the inverse of ``voxel_to_world``.

        Args:
            points: ``(..., 3)`` in mm.

        Returns:
            ``(..., 3)`` float64 in voxels.
        """
        offset = np.asarray(points, dtype=np.float64) - np.asarray(self.origin)
        inverse = np.linalg.inv(np.asarray(self.direction, dtype=np.float64))
        return (offset @ inverse.T) / np.asarray(self.spacing)

    def distance_vox(self, other: Geometry) -> float:
        """Largest distance between equal corners of two grids, in voxels of this one.

        Args:
            other: a grid of the same shape.

        Returns:
            0 for equal grids; rounding noise stays far below 1e-3.

        Raises:
            ValueError: if the shapes differ.
        """
        if self.shape != other.shape:
            raise ValueError(f"shapes differ: {self.shape} and {other.shape}")
        last = np.asarray(self.shape, dtype=np.float64) - 1
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * last
        return float(np.abs(self.world_to_voxel(other.voxel_to_world(corners)) - corners).max())
