"""``autoseg evaluate``: predictions and references -> ``report.json``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autoseg.core.annotation import left_out
from autoseg.core.dataset import Dataset
from autoseg.core.image import LabelMap
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.metrics import CaseScores, Report, Scores
from autoseg.core.progress import Progress, silent
from autoseg.core.words import counted
from autoseg.errors import DataError
from autoseg.evaluate.overlap import score_case
from autoseg.io import artifacts
from autoseg.io.images import read_labels
from autoseg.io.predict_inputs import label_files
from autoseg.io.workspace import REPORT_NAME
from autoseg.workers import map_cases, num_workers

logger = logging.getLogger(__name__)

ALIGNED_VOX = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A prediction and its reference.

    Attributes:
        name: of the case.
        prediction: a label map.
        reference: a label map.
        annotated: names of the structures the reference is annotated for; None for all.
    """

    name: str
    prediction: Path
    reference: Path
    annotated: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    scores: dict[str, Scores]
    not_annotated: tuple[str, ...]
    aligned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A report and the file it was written to."""

    report: Report
    path: Path


def evaluate_folders(
    predictions: Path,
    references: Path,
    labels: LabelSpace | None = None,
    workers: int | None = None,
    progress: Progress = silent,
    *,
    must_fit: bool = True,
    dataset: Dataset | None = None,
) -> Evaluated:
    """Score a folder of predictions; ``report.json`` goes into it.

    Args:
        predictions: folder of label maps.
        references: folder of label maps of the same names.
        labels: what the file values mean; None for one structure per value found.
        workers: processes; None for as many as fit.
        progress: called after each case.
        must_fit: whether label maps with other values are an error; else the values found
            count, as without ``labels``.
        dataset: of the task; its cases say what their label maps are annotated for. With
            ``must_fit`` references are taken for label maps of the cases they are named like.

    Returns:
        The scores and where they were written.

    Raises:
        DataError: if a folder holds nothing to score, or cases cannot be scored.
    """
    pairs = match_folders(predictions, references)
    if labels is not None and not must_fit and not _fits(labels, pairs[0]):
        logger.info("the label values are not those of the current task: named by their values")
        labels = None
    if labels is not None and dataset is not None:
        pairs = with_annotated(pairs, dataset, by_name=must_fit)
    path = predictions / REPORT_NAME
    return Evaluated(report=evaluate_pairs(pairs, labels, path, workers, progress), path=path)


def match_folders(predictions: Path, references: Path) -> list[Pair]:
    """Pair the label maps of two folders by name.

    Args:
        predictions: folder of label maps.
        references: folder of label maps; those without a prediction are left out.

    Returns:
        One pair per prediction, sorted by name.

    Raises:
        DataError: if a folder holds no label maps, or a prediction has no reference.
    """
    predicted, known = label_files(predictions), label_files(references)
    missing = sorted(set(predicted) - set(known))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(predicted)} predictions have no reference, "
            f"the first is '{missing[0]}'",
            place=references,
            remedy="give the folder of their label maps",
        )
    left_out = len(known) - len(predicted)
    if left_out:
        logger.info("%d references have no prediction and are left out", left_out)
    return [
        Pair(name=name, prediction=path, reference=known[name])
        for name, path in sorted(predicted.items())
    ]


def with_annotated(pairs: Sequence[Pair], dataset: Dataset, *, by_name: bool) -> list[Pair]:
    """Pairs that know what their references are annotated for.

    Args:
        pairs: predictions and references.
        dataset: the label maps of whose cases the references may be.
        by_name: whether a reference named like a case is taken for that case's label map; else
            it must be that file, and others of such a name are told.

    Returns:
        The pairs in the same order.
    """
    partial = [case for case in dataset.cases if case.annotated is not None]
    by_file = {dataset.label_path(case).resolve(): case.annotated for case in partial}
    names = {case.name: case.annotated for case in partial}
    found: list[Pair] = []
    namesakes = 0
    for pair in pairs:
        annotated = by_file.get(pair.reference.resolve())
        if annotated is None and by_name:
            annotated = names.get(pair.name)
        elif annotated is None:
            namesakes += pair.name in names
        found.append(replace(pair, annotated=annotated))
    if namesakes:
        logger.warning(
            "%s named like a case of %s that is not annotated for all structures, but scored in "
            "all: --task %s leaves those structures out",
            *(f"{counted(namesakes, 'reference')} {'is' if namesakes == 1 else 'are'}",),
            *(dataset.name, dataset.name),
        )
    return found


def evaluate_pairs(
    pairs: Sequence[Pair],
    labels: LabelSpace | None,
    report_file: Path,
    workers: int | None = None,
    progress: Progress = silent,
) -> Report:
    """Score predictions and write the report.

    Args:
        pairs: at least one.
        labels: what the file values mean; None for one structure per value found.
        report_file: where the report goes.
        workers: processes; None for as many as fit.
        progress: called after each case.

    Returns:
        The report, as written.

    Raises:
        DataError: if cases cannot be scored; all are named.
    """
    label_space = labels or _labels_found(pairs)
    jobs = [(pair.name, (pair, label_space)) for pair in pairs]
    outcomes = map_cases(_score, jobs, num_workers(workers), progress)
    failed = [f"{o.name}: {o.error}" for o in outcomes if o.error is not None]
    if failed:
        raise DataError(f"{len(failed)} cases cannot be scored: {' | '.join(failed[:5])}")
    scored = [(o.name, o.value) for o in outcomes if o.value is not None]
    shifted = [name for name, value in scored if not value.aligned]
    if shifted:
        logger.warning(
            "%d predictions lie elsewhere in the world than their references, the first is '%s': "
            "they were compared voxel by voxel",
            len(shifted),
            shifted[0],
        )
    report = Report(
        predictions=str(pairs[0].prediction.parent),
        references=str(pairs[0].reference.parent),
        structures=label_space.names,
        cases=tuple(
            CaseScores(name=name, structures=value.scores, not_annotated=value.not_annotated)
            for name, value in scored
        ),
    )
    artifacts.save(report_file, report)
    return report


def _score(job: tuple[Pair, LabelSpace]) -> _Scored:
    pair, labels = job
    prediction = read_labels(pair.prediction, labels)
    reference = read_labels(pair.reference, labels)
    if prediction.geometry.shape != reference.geometry.shape:
        raise DataError(
            f"{prediction.geometry.shape} voxels (z, y, x), its reference has "
            f"{reference.geometry.shape}",
            place=pair.prediction,
        )
    scores = score_case(
        _indices(prediction, labels, pair.prediction),
        _indices(reference, labels, pair.reference),
        labels,
    )
    distance = reference.geometry.distance_vox(prediction.geometry)
    unknown = left_out(labels, pair.annotated)
    return _Scored(
        scores={name: value for name, value in scores.items() if name not in unknown},
        not_annotated=unknown,
        aligned=distance < ALIGNED_VOX,
    )


def _indices(label_map: LabelMap, labels: LabelSpace, path: Path) -> np.ndarray:
    try:
        return labels.to_indices(label_map.array)
    except ValueError as error:
        known = ", ".join(map(str, labels.values))
        raise DataError(f"{error} (declared: {known})", place=path) from error


def _fits(labels: LabelSpace, pair: Pair) -> bool:
    found = (read_labels(path, labels).array for path in (pair.prediction, pair.reference))
    return not any(labels.undeclared(np.unique(array)) for array in found)


def _labels_found(pairs: Sequence[Pair]) -> LabelSpace:
    """One structure per foreground value of the label maps, named like the value."""
    values = {
        int(value)
        for pair in pairs
        for path in (pair.prediction, pair.reference)
        for value in np.unique(read_labels(path).array)
    } - {0}
    if not values:
        raise DataError("the label maps hold nothing but background", place=pairs[0].reference)
    return LabelSpace(
        structures=tuple(Structure(name=str(value), values=(value,)) for value in sorted(values))
    )
