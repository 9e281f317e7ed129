"""Everything that is measured on one case."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from autoseg.core.geometry import Geometry
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.measures import USUAL, groups_of
from autoseg.core.metrics import Scores
from autoseg.evaluate.lesions import compare_lesions
from autoseg.evaluate.overlap import confusion_matrix, score_counts
from autoseg.evaluate.pixels import pixel_scores
from autoseg.evaluate.surface import compare_surfaces
from autoseg.imaging.boxes import Box, crop
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM

Indices = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to measure.

    Attributes:
        metrics: names; voxel counts, Dice, IoU, precision, recall and volumes are free and
            always there.
        tolerance: of the surface Dice, in mm (pixels where a picture has no size).
    """

    metrics: tuple[str, ...] = USUAL
    tolerance: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The scores of one case.

    Attributes:
        structures: by name, in declared order.
        whole: metrics that belong to no structure, by name.
    """

    structures: dict[str, Scores]
    whole: dict[str, float | None]


def measure_case(
    prediction: Indices,
    reference: Indices,
    labels: LabelSpace,
    geometry: Geometry,
    wanted: Wanted,
    threads: int = 1,
) -> Measured:
    """Compare the label maps of one case.

    Voxels the reference marks with the ignore label count nowhere, and belong to no structure
    where distances and lesions are measured.

    Args:
        prediction: indices ``0..num_classes - 1``, ``(z, y, x)``.
        reference: indices ``0..num_classes - 1`` or ``ignore_index``, ``(z, y, x)``.
        labels: what the indices mean.
        geometry: of the reference.
        wanted: what to measure.
        threads: structures that are measured at the same time.

    Raises:
        ValueError: if the shapes differ or an index is out of range.
    """
    counts = confusion_matrix(prediction, reference, labels)
    scores = score_counts(counts, labels)
    groups = groups_of(wanted.metrics)
    whole = pixel_scores(counts) if "pixels" in groups else {}
    additions = {name: _volumes(score, geometry) for name, score in scores.items()}
    if groups & {"surface", "lesions"}:
        present = [s for s in labels.structures if scores[s.name].dice is not None]
        boxes = _Boxes(prediction, reference, labels)

        def measure(structure: Structure) -> dict[str, Any]:
            predicted, true = boxes.masks(structure)
            return _shapes(predicted, true, _plane(geometry), wanted)

        with ThreadPoolExecutor(threads) as pool:
            for structure, found in zip(present, pool.map(measure, present), strict=True):
                additions[structure.name] |= found
    return Measured(
        structures={name: s.model_copy(update=additions[name]) for name, s in scores.items()},
        whole={name: value for name, value in whole.items() if name in wanted.metrics},
    )


def is_picture(geometry: Geometry) -> bool:
    """Whether an image is a picture, which has neither depth nor volume."""
    return geometry.shape[0] == 1 and geometry.spacing[0] == SINGLE_SLICE_SPACING_MM


def has_unknown_size(geometry: Geometry) -> bool:
    """Whether a picture does not tell the size of its pixels: they are then 1 in each direction."""
    return is_picture(geometry) and geometry.spacing[1:] == (1.0, 1.0)


def _plane(geometry: Geometry) -> Sequence[tuple[int, float]]:
    """Axes along which there are distances, with their spacing: those of more than one voxel."""
    axes = list(enumerate(geometry.spacing))
    kept = [axis for axis in axes if geometry.shape[axis[0]] > 1]
    return kept if len(kept) == 2 else axes


def _volumes(scores: Scores, geometry: Geometry) -> dict[str, float | None]:
    if is_picture(geometry):
        return {}
    voxel_ml = geometry.voxel_volume_ml
    predicted = (scores.true_positives + scores.false_positives) * voxel_ml
    true = (scores.true_positives + scores.false_negatives) * voxel_ml
    # Absent from both there is no error to speak of; a perfect 0 would flatter the mean.
    error = predicted - true if scores.dice is not None else None
    return {"volume_ml": predicted, "reference_volume_ml": true, "volume_error_ml": error}


class _Boxes:
    """The part of both label maps in which a structure lies, found for all in one pass."""

    def __init__(self, prediction: Indices, reference: Indices, labels: LabelSpace) -> None:
        self._maps = prediction, reference
        self._labels = labels
        self._found = [find_objects(m, max_label=labels.num_classes - 1) for m in self._maps]

    def masks(self, structure: Structure) -> list[npt.NDArray[np.bool_]]:
        """Where prediction and reference have a structure, cut to the box of both."""
        indices = self._labels.indices_of(structure)
        found = [boxes[i - 1] for boxes in self._found for i in indices if boxes[i - 1] is not None]
        box = Box(
            lower=tuple(min(slices[axis].start for slices in found) for axis in range(3)),
            upper=tuple(max(slices[axis].stop for slices in found) for axis in range(3)),
        )
        predicted, true = (crop(label_map, box) for label_map in self._maps)
        masks = [_is_one_of(predicted, indices), _is_one_of(true, indices)]
        if self._labels.ignore_index is not None:
            masks[0] &= true != self._labels.ignore_index
        return masks


def _is_one_of(array: Indices, indices: Sequence[int]) -> npt.NDArray[np.bool_]:
    mask = array == indices[0]
    for index in indices[1:]:
        mask |= array == index
    return mask


def _shapes(
    predicted: npt.NDArray[np.bool_],
    true: npt.NDArray[np.bool_],
    axes: Sequence[tuple[int, float]],
    wanted: Wanted,
) -> dict[str, Any]:
    """Distances and lesions of a structure that is in one of the label maps at least."""
    left_out = tuple(axis for axis in range(3) if axis not in dict(axes))
    predicted, true = predicted.squeeze(left_out), true.squeeze(left_out)
    groups = groups_of(wanted.metrics)
    found: dict[str, Any] = {}
    if "surface" in groups:
        spacing = [step for _, step in axes]
        surfaces = compare_surfaces(predicted, true, spacing, wanted.tolerance)
        found |= {"hd95": surfaces.hd95, "assd": surfaces.assd, "nsd": surfaces.nsd}
    if "lesions" in groups:
        lesions = compare_lesions(predicted, true)
        found |= {
            "num_lesions": lesions.num_lesions,
            "num_predicted_lesions": lesions.num_predicted,
            "lesion_sensitivity": lesions.sensitivity,
            "lesion_f1": lesions.f1,
            "false_lesions": lesions.num_false,
        }
    return found
