"""Older scores of whole label maps, for comparison with reports that have no others.

They mislead: background is most of an image, so a prediction of nothing scores near 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pixel_scores(counts: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """Pixel accuracy, pixel error and class-weighted Jaccard from a confusion matrix.

    Args:
        counts: voxels by index of the reference (rows) and of the prediction (columns),
            background included.

    Returns:
        ``pixel_accuracy``, ``pixel_error`` and ``weighted_jaccard`` (IoU of every index, weighed
        by its voxels in the reference); None if no voxel counts.
    """
    total = int(counts.sum())
    if total == 0:
        return dict.fromkeys(("pixel_accuracy", "pixel_error", "weighted_jaccard"))
    right, true = np.diagonal(counts), counts.sum(axis=1)
    union = true + counts.sum(axis=0) - right
    iou = right / np.maximum(union, 1)
    accuracy = float(right.sum() / total)
    return {
        "pixel_accuracy": accuracy,
        "pixel_error": 1.0 - accuracy,
        "weighted_jaccard": float((iou * true).sum() / total),
    }
