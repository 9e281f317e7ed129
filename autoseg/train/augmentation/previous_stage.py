"""The prediction of a previous stage as channels of a patch, and how it is varied in training.

Varied, it is a hint that the network learns to weigh against the image, not to copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer]

_FAR = np.uint8(128)
"""Above every squared distance that counts; with one more square added it still fits a byte."""
LARGEST_RADIUS_VOX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRange:
    """How the channels of a previous stage may be varied.

    Attributes:
        reshape_share: share of the samples in which masks grow, shrink, close or open.
        radius_vox: of the ball they do that by, drawn for each mask; at most 8.
        removal_share: share of the samples in which components are left out.
        channel_share: share of the masks of such a sample that are changed, each by itself.
        largest_removed: components of at least this share of the patch are never left out.

    References:
        Shares and ranges are those of nnU-Net.
    """

    reshape_share: float = 0.4
    radius_vox: tuple[float, float] = (1.0, 8.0)
    removal_share: float = 0.2
    channel_share: float = 0.5
    largest_removed: float = 0.15


def one_hot(labels: Labels, num_labels: int) -> Mask:
    """One mask per foreground label.

    Args:
        labels: indices 0..num_labels, any shape.
        num_labels: number of foreground labels.

    Returns:
        ``(num_labels, *labels.shape)``; index i is in mask i - 1.
    """
    indices = np.arange(1, num_labels + 1, dtype=labels.dtype)
    return labels == indices.reshape(-1, *(1,) * labels.ndim)


def vary(masks: Mask, allowed: PreviousRange, rng: np.random.Generator) -> None:
    """Reshape masks, then leave components out, each in its share of the samples.

    Args:
        masks: ``(labels, *patch)``, changed in place.
        allowed: what may happen.
        rng: source of randomness.
    """
    if rng.random() < allowed.reshape_share:
        for channel in _chosen(len(masks), allowed, rng):
            operation = _OPERATIONS[int(rng.integers(len(_OPERATIONS)))]
            _reshape(masks, channel, operation, float(rng.uniform(*allowed.radius_vox)))
    if rng.random() < allowed.removal_share:
        most = allowed.largest_removed * masks[0].size
        for channel in _chosen(len(masks), allowed, rng):
            _leave_out(masks[channel], most, rng)


def dilated(mask: Mask, radius_vox: float) -> Mask:
    """All voxels within a distance of a mask.

    Args:
        mask: any number of axes.
        radius_vox: the distance between voxel centres, at most 8.

    Raises:
        ValueError: if the distance is larger.
    """
    if radius_vox > LARGEST_RADIUS_VOX:
        raise ValueError(f"radii up to {LARGEST_RADIUS_VOX} voxels are possible, got {radius_vox}")
    squared = np.where(mask, np.uint8(0), _FAR)
    for axis in range(mask.ndim):
        squared = _nearest_along(squared, axis, int(radius_vox))
    return squared <= int(radius_vox**2)


def eroded(mask: Mask, radius_vox: float) -> Mask:
    """The voxels of a mask that are further than a distance from all others of the array."""
    return ~dilated(~mask, radius_vox)


def closed(mask: Mask, radius_vox: float) -> Mask:
    """A mask with its gaps narrower than a ball filled."""
    return eroded(dilated(mask, radius_vox), radius_vox)


def opened(mask: Mask, radius_vox: float) -> Mask:
    """A mask without its parts narrower than a ball."""
    return dilated(eroded(mask, radius_vox), radius_vox)


_OPERATIONS: tuple[Callable[[Mask, float], Mask], ...] = (dilated, eroded, closed, opened)


def _chosen(count: int, allowed: PreviousRange, rng: np.random.Generator) -> list[int]:
    """Some of the channels, in random order."""
    order = rng.permutation(count)
    return [int(channel) for channel in order[rng.random(count) < allowed.channel_share]]


def _reshape(
    masks: Mask, channel: int, operation: Callable[[Mask, float], Mask], radius_vox: float
) -> None:
    """Apply an operation to one mask; what it gains the others lose."""
    box = _around(masks[channel], int(radius_vox) + 1)
    if box is None:
        return
    inside = masks[(slice(None), *box)]
    result = operation(inside[channel], radius_vox)
    inside[:, result & ~inside[channel]] = False
    inside[channel] = result


def _around(mask: Mask, margin: int) -> tuple[slice, ...] | None:
    """The box of a mask with a margin, within the patch; None if it is empty."""
    box: list[slice] = []
    for axis, size in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(np.any(mask, axis=others))
        if not occupied.size:
            return None
        first, last = int(occupied[0]), int(occupied[-1])
        box.append(slice(max(0, first - margin), min(size, last + margin + 1)))
    return tuple(box)


def _leave_out(mask: Mask, most: float, rng: np.random.Generator) -> None:
    """Empty one random component of fewer than ``most`` voxels, if there is one."""
    box = _around(mask, 0)
    if box is None:
        return
    inside = mask[box]
    components = cc3d.connected_components(inside, connectivity=8 if mask.ndim == 2 else 26)
    small = 1 + np.flatnonzero(np.bincount(components.ravel())[1:] < most)
    if small.size:
        inside[components == small[rng.integers(small.size)]] = False


def _nearest_along(squared: npt.NDArray[np.uint8], axis: int, reach: int) -> npt.NDArray[np.uint8]:
    """Squared distances with one axis more taken into account, right up to ``reach``."""
    nearest = squared.copy()
    source, result = np.moveaxis(squared, axis, 0), np.moveaxis(nearest, axis, 0)
    for step in range(1, min(reach, len(source) - 1) + 1):
        further = source + np.uint8(step * step)
        np.minimum(result[step:], further[:-step], out=result[step:])
        np.minimum(result[:-step], further[step:], out=result[:-step])
    return nearest
