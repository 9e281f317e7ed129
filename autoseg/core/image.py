"""An array on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """Intensities on a grid.

    Args:
        array: float32, ``(channels, z, y, x)``.
        geometry: the grid; its shape is the array's without channels.

    Raises:
        ValueError: if shape or dtype do not fit.
    """

    array: npt.NDArray[np.float32]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.geometry.shape:
            raise ValueError(
                f"array must be (channels, {self.geometry.shape}), got {self.array.shape}"
            )
        if self.array.dtype != np.float32:
            raise ValueError(f"array must be float32, got {self.array.dtype}")

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return self.array.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMap:
    """Integer labels on a grid.

    Args:
        array: integer, ``(z, y, x)``.
        geometry: the grid; its shape is the array's.

    Raises:
        ValueError: if shape or dtype do not fit.
    """

    array: npt.NDArray[np.integer]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise ValueError(f"array must be {self.geometry.shape}, got {self.array.shape}")
        if not np.issubdtype(self.array.dtype, np.integer):
            raise ValueError(f"array must be integer, got {self.array.dtype}")
