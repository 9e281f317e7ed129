"""How much each class weighs in a loss that makes up for rare ones."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import numpy as np

from autoseg.core.fingerprint import Fingerprint

LARGEST_RATIO = 100.0


def class_weights(fingerprint: Fingerprint, cases: Collection[str]) -> tuple[float, ...]:
    """Weights that grow as classes get rarer.

    The frequency of a class is its share of the volume of those cases that contain it, and its
    weight one over the square root of that: patches are drawn so that structures are seen more
    often than they occur, and one over the frequency itself would make up for the same
    imbalance twice. No class weighs more than 100 times the commonest, and the mean is 1. What
    belongs to no structure counts as background, ignored voxels too. A class that is in none
    of the cases weighs as much as the rarest one. Cases that are not annotated for a class do
    not contain it and change its weight no more than others without it.

    Args:
        fingerprint: of the data set.
        cases: names of the training cases, at least one.

    Returns:
        One weight for each class, background first.

    References:
        Eigen and Fergus 2015, Predicting depth, surface normals and semantic labels (median
        frequency balancing), for the frequency; the square root and the limit are ours.
    """
    measured = [case for case in fingerprint.cases if case.name in cases]
    # In mm3, as they are after resampling to one spacing.
    voxels = np.array([prod(case.spacing) for case in measured])
    whole = np.array([prod(case.shape) for case in measured]) * voxels
    structures = np.array([case.label_voxels for case in measured]) * voxels[:, None]
    volumes = np.column_stack([whole - structures.sum(1), structures])
    around = ((volumes > 0) * whole[:, None]).sum(0)
    weights = np.sqrt(around / np.maximum(volumes.sum(0), 1e-9))
    present = around > 0
    weights[~present] = weights[present].max()
    weights = np.minimum(weights, LARGEST_RATIO * weights.min())
    return tuple((weights / weights.mean()).tolist())
