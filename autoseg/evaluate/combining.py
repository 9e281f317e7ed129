"""What ensembles get right, counted while the probabilities of their members come in: pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from autoseg.core.labels import LabelSpace
from autoseg.evaluate.overlap import confusion_matrix
from autoseg.imaging.decide import indices_from

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]

Members = tuple[int, ...]
"""Positions of the candidates that predict together, ascending."""


def ensembles_of(candidates: Sequence[int]) -> list[Members]:
    """Every two, three and more of some candidates, the smaller ensembles first."""
    sizes = range(2, len(candidates) + 1)
    return [members for size in sizes for members in combinations(sorted(candidates), size)]


def count_slab(
    probabilities: Sequence[Floats],
    reference: npt.NDArray[np.integer],
    labels: LabelSpace,
    combined: Sequence[Members],
) -> Counts:
    """Compare what combinations of candidates say with the reference, on a slab of an image.

    Where all candidates are sure of the same, so is every mean of their probabilities; that is
    nearly everywhere, and counted once. Only the rest is combined.

    Args:
        probabilities: of each candidate, ``(outputs, rows, *others)``.
        reference: indices ``0..num_classes - 1`` or ``ignore_index``, ``(rows, *others)``.
        labels: what outputs and indices mean.
        combined: which candidates' probabilities are averaged.

    Returns:
        A confusion matrix per combination, as ``confusion_matrix`` gives it.

    Raises:
        ValueError: if the shapes differ or an index is out of range.
    """
    is_open = ~_agree(probabilities, labels)
    is_sure = ~is_open
    sure = indices_from(probabilities[0][:, is_sure], labels)
    counted_once = confusion_matrix(sure[np.newaxis], reference[is_sure][np.newaxis], labels)
    contested = [one[:, is_open] for one in probabilities]
    true = reference[is_open][np.newaxis]
    counts = np.empty((len(combined), *counted_once.shape), dtype=np.int64)
    for number, members in enumerate(combined):
        indices = indices_from(_mean([contested[member] for member in members]), labels)
        counts[number] = counted_once + confusion_matrix(indices[np.newaxis], true, labels)
    return counts


def _agree(probabilities: Sequence[Floats], labels: LabelSpace) -> npt.NDArray[np.bool_]:
    """Where all candidates give the same, each beyond doubt."""
    above = [one > 0.5 for one in probabilities]
    agree = np.ones(above[0].shape[1:], dtype=bool)
    for one in above[1:]:
        agree &= (one == above[0]).all(axis=0)
    # A class above one half is the largest of all; without one the mean may be of another.
    return agree if labels.has_regions else agree & above[0].any(axis=0)


def _mean(members: Sequence[Floats]) -> Floats:
    """As predicting takes it: one after the other, in float32."""
    mean = members[0].copy()
    for other in members[1:]:
        mean += other
    if len(members) > 1:
        mean /= len(members)
    return mean
