"""How undecided the networks are about each voxel."""

from __future__ import annotations

from math import log

import numpy as np
from scipy.special import entr

from autoseg.imaging.operators import Floats


def uncertainty(probabilities: Floats, has_regions: bool) -> Floats:
    """The entropy of the probabilities of every voxel.

    Args:
        probabilities: float32 ``(outputs, ...)``.
        has_regions: whether each output is a region by itself, instead of one class of several.

    Returns:
        float32 of the shape without outputs: 0 where all is certain, 1 where all classes are
        equally likely. Of regions it is that of the most uncertain one, 1 where it is as likely
        to be there as not: the mean would fade with the number of regions.
    """
    result = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for output in probabilities:
        if has_regions:
            np.maximum(result, entr(output) + entr(1 - output), out=result)
        else:
            result += entr(output)
    most = log(2) if has_regions else log(max(len(probabilities), 2))
    return np.clip(result / np.float32(most), 0, 1)
