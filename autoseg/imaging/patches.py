"""Where patches lie: the tiles of a prediction and the samples of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
from scipy import ndimage

SMALLEST_WEIGHT = 2.0**-24 / 10
"""Floor of the Gaussian weights, as in the reference (its least half-precision number)."""


def tile_starts(size: int, patch: int, step: float = 0.5) -> list[int]:
    """Where tiles start along one axis so that they cover it evenly.

    Args:
        size: voxels of the image, at least ``patch``.
        patch: voxels of a tile.
        step: largest distance of neighbouring tiles, as a fraction of the tile, in (0, 1].

    Returns:
        First voxels, ascending; the last tile ends with the image.

    Raises:
        ValueError: if the image is smaller than the tile or the step is out of range.
    """
    if size < patch:
        raise ValueError(f"an image of {size} voxels must be padded to the patch of {patch}")
    if not 0 < step <= 1:
        raise ValueError(f"step must be above 0 and at most 1, got {step}")
    intervals = ceil((size - patch) / (patch * step))
    if intervals == 0:
        return [0]
    return [round(i * (size - patch) / intervals) for i in range(intervals + 1)]


def gaussian_weights(patch: Sequence[int]) -> npt.NDArray[np.float32]:
    """How much each voxel of a tile counts where tiles overlap.

    A Gaussian around voxel ``patch // 2`` with a standard deviation of an eighth of the patch,
    1 at its peak. The reference keeps weights and their sums in half precision, which cannot
    tell apart the small weights near a corner: constant logits come out up to a third off
    along the borders of a volume. Here they are float32, so that weighted sums over their
    weights give constant logits back to 1e-6; the floor only keeps the ratio away from 0/0.

    Args:
        patch: voxels per axis.

    Returns:
        float32 of shape ``patch``, from ``SMALLEST_WEIGHT`` to 1.
    """
    weights = np.ones((1,) * len(patch))
    for axis, size in enumerate(patch):
        impulse = np.zeros(size)
        impulse[size // 2] = 1.0
        profile = ndimage.gaussian_filter1d(impulse, size / 8, mode="constant")
        weights = weights * np.expand_dims(
            profile / profile.max(), [other for other in range(len(patch)) if other != axis]
        )
    return np.maximum(weights, SMALLEST_WEIGHT).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRange:
    """Where the lower corner of a patch may lie.

    Args:
        lowest: per axis, in voxels; negative where patches reach beyond the image.
        highest: per axis, inclusive.
    """

    lowest: tuple[int, ...]
    highest: tuple[int, ...]

    @classmethod
    def of(
        cls, shape: Sequence[int], patch_read: Sequence[int], patch_final: Sequence[int]
    ) -> PatchRange:
        """The range in which augmentation loses nothing it need not lose.

        A patch may reach beyond the image by half of what augmentation cuts away again, or by
        half of what it is larger than the image if that is more.

        Args:
            shape: of the image, in voxels.
            patch_read: the patch cut from the image.
            patch_final: what is left of it after augmentation.
        """
        lowest: list[int] = []
        highest: list[int] = []
        for size, read, final in zip(shape, patch_read, patch_final, strict=True):
            margin = -(-max(read - final, read - size) // 2)
            lowest.append(-margin)
            highest.append(size + margin - read)
        return cls(lowest=tuple(lowest), highest=tuple(highest))

    def clamp(self, corner: Sequence[int]) -> tuple[int, ...]:
        """The allowed corner nearest to another."""
        limits = zip(self.lowest, corner, self.highest, strict=True)
        return tuple(min(max(low, value), high) for low, value, high in limits)

    def draw(self, rng: np.random.Generator) -> tuple[int, ...]:
        """A corner drawn uniformly."""
        return tuple(rng.integers(self.lowest, self.highest, endpoint=True).tolist())


def lower_corner(
    shape: Sequence[int],
    patch_read: Sequence[int],
    patch_final: Sequence[int],
    rng: np.random.Generator,
    centre: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Where a training patch starts.

    With a centre the patch is moved back at both borders so that it shows as little padding as
    a random one; the reference does so at the near border only.

    Args:
        shape: of the image, in voxels.
        patch_read: the patch cut from the image.
        patch_final: what is left of it after augmentation.
        rng: draws the corner if there is no centre.
        centre: voxel to put in the middle of the patch.

    Returns:
        First voxel per axis; negative beyond the border.
    """
    allowed = PatchRange.of(shape, patch_read, patch_final)
    if centre is None:
        return allowed.draw(rng)
    wanted = [voxel - size // 2 for voxel, size in zip(centre, patch_read, strict=True)]
    return allowed.clamp(wanted)
