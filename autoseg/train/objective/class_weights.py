"""How much each class weighs in a loss that makes up for rare ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from autoseg.core.fingerprint import Fingerprint

LARGEST_RATIO = 100.0


def class_weights(
    fingerprint: Fingerprint,
    cases: Collection[str],
    regions: Sequence[Sequence[int]] | None = None,
    known: Mapping[str, Sequence[bool]] | None = None,
) -> tuple[float, ...]:
    """Weights that grow as classes get rarer.

    The frequency of a class is its share of the volume of those cases that contain it, and its
    weight one over the square root of that: patches are drawn so that structures are seen more
    often than they occur, and one over the frequency itself would make up for the same
    imbalance twice. No class weighs more than 100 times the commonest, and the mean is 1. What
    belongs to no structure counts as background, ignored voxels too. A class that is in none
    of the cases weighs as much as the rarest one. Cases that are not annotated for a class do
    not contain it and change its weight no more than others without it.

    Each region is one of two classes, the other being all that is outside it, which weighs 1.

    Args:
        fingerprint: of the data set.
        cases: names of the training cases, at least one.
        regions: label indices that make up each structure where structures may overlap, else
            None.
        known: which regions cases are annotated for, of those that are not for all.

    Returns:
        One weight for each class, background first, or for each region.

    References:
        Eigen and Fergus 2015, Predicting depth, surface normals and semantic labels (median
        frequency balancing), for the frequency; the square root and the limit are ours.
    """
    measured = [case for case in fingerprint.cases if case.name in cases]
    # In mm3, as they are after resampling to one spacing.
    voxels = np.array([prod(case.spacing) for case in measured])
    whole = np.array([prod(case.shape) for case in measured]) * voxels
    structures = np.array([case.label_voxels for case in measured]) * voxels[:, None]
    if regions is not None:
        everything = (True,) * len(regions)
        judged = np.array([(known or {}).get(case.name, everything) for case in measured])
        return _region_weights(whole, structures, regions, judged)
    volumes = np.column_stack([whole - structures.sum(1), structures])
    around = ((volumes > 0) * whole[:, None]).sum(0)
    weights = np.sqrt(around / np.maximum(volumes.sum(0), 1e-9))
    present = around > 0
    weights[~present] = weights[present].max()
    weights = np.minimum(weights, LARGEST_RATIO * weights.min())
    return tuple((weights / weights.mean()).tolist())


def _region_weights(
    whole: npt.NDArray[np.float64],
    structures: npt.NDArray[np.float64],
    regions: Sequence[Sequence[int]],
    judged: npt.NDArray[np.bool_],
) -> tuple[float, ...]:
    """From the volume of each case and of each index 1..n in it, ``(cases, n)``."""
    inside = np.column_stack([structures[:, np.array(r) - 1].sum(1) for r in regions]) * judged
    outside = ((inside > 0) * (whole[:, None] - inside)).sum(0)
    present = inside.any(0)
    ratios = np.sqrt(outside / np.maximum(inside.sum(0), 1e-9))
    ratios[~present] = ratios[present].max() if present.any() else 1.0
    return tuple(np.clip(ratios, 1 / LARGEST_RATIO, LARGEST_RATIO).tolist())
