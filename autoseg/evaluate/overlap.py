"""Voxel overlap of a segmentation and its reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autoseg.core.labels import LabelSpace
from autoseg.core.metrics import Scores


def ignore_alike(
    prediction: npt.NDArray[np.integer],
    reference: npt.NDArray[np.integer],
    labels: LabelSpace,
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Let a reference ignore what the prediction ignores, too, as another rater's may.

    Args:
        prediction: indices ``0..num_classes - 1`` or ``ignore_index``, ``(z, y, x)``.
        reference: of the same shape, likewise.
        labels: what the indices mean.

    Returns:
        Both, as measuring wants them: the ignored voxels are marked in the reference alone. They
        are the same arrays if the prediction ignores nothing.
    """
    if labels.ignore_index is None:
        return prediction, reference
    hidden = prediction == labels.ignore_index
    if not hidden.any():
        return prediction, reference
    return np.where(hidden, 0, prediction), np.where(hidden, labels.ignore_index, reference)


def score_case(
    prediction: npt.NDArray[np.integer],
    reference: npt.NDArray[np.integer],
    labels: LabelSpace,
) -> dict[str, Scores]:
    """Compare the label maps of one case, structure by structure.

    A structure that is absent from both has no score; one that is absent from one of them
    scores 0. Voxels the reference marks with the ignore label count nowhere. A structure of
    several indices is their union.

    Args:
        prediction: indices ``0..num_classes - 1``, ``(z, y, x)``.
        reference: indices ``0..num_classes - 1`` or ``ignore_index``, ``(z, y, x)``.
        labels: what the indices mean.

    Returns:
        Scores by structure name, in declared order.

    Raises:
        ValueError: if the shapes differ or an index is out of range.
    """
    return score_counts(confusion_matrix(prediction, reference, labels), labels)


def score_counts(counts: npt.NDArray[np.int64], labels: LabelSpace) -> dict[str, Scores]:
    """Scores of all structures from the counts of ``confusion_matrix``."""
    return {
        structure.name: _score(counts, labels.indices_of(structure))
        for structure in labels.structures
    }


def confusion_matrix(
    prediction: npt.NDArray[np.integer],
    reference: npt.NDArray[np.integer],
    labels: LabelSpace,
) -> npt.NDArray[np.int64]:
    """Count voxels by what the reference and the prediction say.

    Args:
        prediction: indices ``0..num_classes - 1``, ``(z, y, x)``.
        reference: indices ``0..num_classes - 1`` or ``ignore_index``, ``(z, y, x)``.
        labels: what the indices mean.

    Returns:
        Voxel counts without those to ignore; rows are the reference's indices, columns the
        prediction's, both ``0..num_classes - 1``.

    Raises:
        ValueError: if the shapes differ or an index is out of range.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {reference.shape}")
    columns, rows = labels.num_classes, len(labels.values)
    _check_range("prediction", prediction, columns)
    _check_range("reference", reference, rows)
    counts = np.zeros(rows * columns, dtype=np.int64)
    # Slice by slice, because bincount wants eight bytes per voxel.
    for predicted, true in zip(prediction, reference, strict=True):
        joint = true.astype(np.intp) * columns + predicted
        counts += np.bincount(joint.ravel(), minlength=counts.size)
    return counts.reshape(rows, columns)[:columns]


def _check_range(what: str, indices: npt.NDArray[np.integer], size: int) -> None:
    if indices.size and not 0 <= indices.min() <= indices.max() < size:
        found = f"{indices.min()}..{indices.max()}"
        raise ValueError(f"the {what}'s indices must be 0..{size - 1}, got {found}")


def _score(counts: npt.NDArray[np.int64], indices: tuple[int, ...]) -> Scores:
    inside = np.zeros(len(counts), dtype=bool)
    inside[list(indices)] = True
    true_positives = int(counts[np.ix_(inside, inside)].sum())
    false_positives = int(counts[np.ix_(~inside, inside)].sum())
    false_negatives = int(counts[np.ix_(inside, ~inside)].sum())
    return score_voxels(true_positives, false_positives, false_negatives)


def score_voxels(true_positives: int, false_positives: int, false_negatives: int) -> Scores:
    """Scores of a structure from its voxels in both, and in one of them only."""
    union = true_positives + false_positives + false_negatives
    return Scores(
        true_positives=true_positives,
        false_positives=false_positives,
        false_negatives=false_negatives,
        dice=2 * true_positives / (union + true_positives) if union else None,
        iou=true_positives / union if union else None,
        precision=_share(true_positives, false_positives),
        recall=_share(true_positives, false_negatives),
    )


def _share(right: int, wrong: int) -> float | None:
    return right / (right + wrong) if right + wrong else None
