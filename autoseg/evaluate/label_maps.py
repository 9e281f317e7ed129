"""Label maps of held-out cases compared with their references: what a selection needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.core.labels import LabelSpace
from autoseg.core.parts import Parts
from autoseg.core.progress import Progress, silent
from autoseg.errors import DataError
from autoseg.evaluate.measure import is_picture
from autoseg.evaluate.overlap import confusion_matrix, score_counts
from autoseg.evaluate.pairs import Pair
from autoseg.evaluate.removing import parts_of
from autoseg.io.images import read_geometry, read_labels
from autoseg.workers import map_cases, num_workers

Triples = tuple[tuple[int, int, int], ...]
"""By structure, in declared order: voxels in both, predicted only, in the reference only."""

BYTES_PER_VOXEL = 32
"""Memory of a case at its peak: label maps as read and as indices, components of a structure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was found out about a case.

    Attributes:
        voxels: what is right, invented and missed.
        parts: what the prediction consists of.
    """

    voxels: Triples
    parts: Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    pair: Pair
    labels: LabelSpace


def compare_label_maps(
    pairs: Sequence[Pair],
    labels: LabelSpace,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Compared]:
    """Count what is right in predictions, in processes.

    Args:
        pairs: predictions and references.
        labels: what the file values mean.
        workers: processes; None for as many as fit.
        progress: called after each case.

    Returns:
        What was found, by case.

    Raises:
        DataError: if cases cannot be compared; all are named.
    """
    if not pairs:
        return {}
    largest = max(prod(read_geometry(pair.reference)[0].shape) for pair in pairs)
    processes = min(num_workers(workers, BYTES_PER_VOXEL * largest), len(pairs))
    jobs = [(pair.name, _Job(pair=pair, labels=labels)) for pair in pairs]
    outcomes = map_cases(_compare, jobs, processes, progress)
    failed = [f"{o.name}: {o.error}" for o in outcomes if o.error is not None]
    if failed:
        raise DataError(f"{len(failed)} cases cannot be scored: {' | '.join(failed[:5])}")
    return {o.name: o.value for o in outcomes if o.value is not None}


def read_indices(path: Path, labels: LabelSpace) -> tuple[npt.NDArray[np.integer], Geometry]:
    """Label indices of a label map, and their grid.

    Raises:
        AutosegError: if it cannot be read, or holds a value that is not declared.
    """
    label_map = read_labels(path, labels)
    try:
        return labels.to_indices(label_map.array), label_map.geometry
    except ValueError as error:
        raise DataError(str(error), place=path) from error


def voxel_volume_ml(geometry: Geometry) -> float | None:
    """Volume of a voxel; None for pictures."""
    return None if is_picture(geometry) else geometry.voxel_volume_ml


def triples_of(counts: npt.NDArray[np.int64], labels: LabelSpace) -> Triples:
    """What is right, invented and missed, from a confusion matrix."""
    scores = score_counts(counts, labels).values()
    return tuple((s.true_positives, s.false_positives, s.false_negatives) for s in scores)


def _compare(job: _Job) -> Compared:
    labels = job.labels
    prediction, geometry = read_indices(job.pair.prediction, labels)
    reference, grid = read_indices(job.pair.reference, labels)
    if geometry.shape != grid.shape:
        raise DataError(
            f"{grid.shape} voxels (z, y, x), its image has {geometry.shape}",
            place=job.pair.reference,
        )
    volume = voxel_volume_ml(geometry)
    return Compared(
        voxels=triples_of(confusion_matrix(prediction, reference, labels), labels),
        parts=parts_of(prediction, reference, labels, volume),
    )
