"""Connected-component clean-up."""

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
