"""Connected components: clean-up and counts."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
import numpy.typing as npt

from autoseg.imaging.boxes import bounding_box, crop


def keep_largest(
    labels: npt.NDArray[np.integer], indices: Sequence[int]
) -> npt.NDArray[np.integer]:
    """Keep the largest connected component of what some labels cover together.

    Voxels are neighbours when they share a face, an edge or a corner. Components of equal,
    largest size are all kept.

    Args:
        labels: integer ``(z, y, x)``, not changed.
        indices: labels whose union is looked at; all others stay.

    Returns:
        A new array in which the smaller components are 0.
    """
    result = labels.copy()
    union = np.isin(labels, indices)
    box = bounding_box(union)
    components = cc3d.connected_components(crop(union, box), connectivity=26)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    is_small = sizes < sizes.max()
    is_small[0] = False
    crop(result, box)[is_small[components]] = 0
    return result


def count_components(labels: npt.NDArray[np.integer], count: int) -> tuple[int, ...]:
    """Number of connected components of each label.

    Voxels are neighbours when they share a face, an edge or a corner.

    Args:
        labels: integer ``(z, y, x)``.
        count: labels 1..count are looked at; all others are background.

    Returns:
        One number for each of them; 0 for a label that is absent.
    """
    is_one = (labels > 0) & (labels <= count)
    if not is_one.any():
        return (0,) * count
    box = bounding_box(is_one)
    inside = np.where(crop(is_one, box), crop(labels, box), 0)
    components, total = cc3d.connected_components(inside, connectivity=26, return_N=True)
    label_of = np.zeros(total + 1, labels.dtype)
    label_of[components] = inside
    return tuple(np.bincount(label_of[1:], minlength=count + 1)[1:].tolist())
