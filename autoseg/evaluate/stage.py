"""``autoseg evaluate``: predictions and references -> ``report.json``."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from autoseg.core.annotation import left_out
from autoseg.core.dataset import Dataset
from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.measures import USUAL
from autoseg.core.metrics import CaseScores, Report
from autoseg.core.progress import Progress, silent
from autoseg.core.words import counted
from autoseg.errors import AutosegError, DataError
from autoseg.evaluate.measure import Measured, Wanted, has_unknown_size, is_picture, measure_case
from autoseg.evaluate.statistics import (
    foreground_interval,
    summarise_structures,
    summarise_whole,
)
from autoseg.io import artifacts
from autoseg.io.images import read_geometry, read_labels
from autoseg.io.machine import available_cores
from autoseg.io.predict_inputs import label_files
from autoseg.io.workspace import REPORT_NAME
from autoseg.workers import map_cases, num_workers

logger = logging.getLogger(__name__)

ALIGNED_VOX = 1e-3

BYTES_PER_VOXEL = 16
"""Memory of a case at its peak: label maps as read and as indices, and the box of a structure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A prediction and its reference.

    Attributes:
        name: the case.
        prediction: its label map.
        reference: its annotated label map.
        group: the patient, if it is known.
        annotated: names of the structures the reference is annotated for; None for all.
    """

    name: str
    prediction: Path
    reference: Path
    group: str | None = None
    annotated: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure, and with how many processes.

    Attributes:
        metrics: names.
        tolerance: of the surface Dice, in mm (pixels for pictures without a size); None for the
            side of a typical voxel.
        workers: processes; None for as many as fit.
    """

    metrics: tuple[str, ...] = USUAL
    tolerance: float | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance < math.inf:
            raise AutosegError(
                f"--tolerance-mm {self.tolerance:g}: a distance cannot be that",
                remedy="give mm, such as 2",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    pair: Pair
    labels: LabelSpace
    wanted: Wanted
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    measured: Measured
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
    options: Options | None = None,
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
        dataset: of the task; its cases say which patient they are of and what their label maps are
            annotated for. With ``must_fit`` references are taken for label maps of the cases they
            are named like.
        options: what to measure; ``workers`` overrules theirs.

    Returns:
        The scores and where they were written.

    Raises:
        DataError: if a folder holds nothing to score, or cases cannot be scored.
    """
    pairs = with_groups(match_folders(predictions, references), dataset)
    labels = labels_that_fit(labels, pairs, must_fit=must_fit)
    if labels is not None and dataset is not None:
        pairs = with_annotated(pairs, dataset, by_name=must_fit)
    path = predictions / REPORT_NAME
    report = evaluate_pairs(pairs, labels, path, workers, progress, options=options)
    return Evaluated(report=report, path=path)


def labels_that_fit(
    labels: LabelSpace | None, pairs: Sequence[Pair], *, must_fit: bool
) -> LabelSpace | None:
    """The declared labels, unless the label maps hold others and may; None for those found."""
    if labels is None or must_fit or _fits(labels, pairs[0]):
        return labels
    logger.info("the label values are not those of the current task: named by their values")
    return None


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


def with_groups(pairs: Sequence[Pair], dataset: Dataset | None) -> list[Pair]:
    """Pairs that know their patient, where they are named like a case of the task."""
    groups = {} if dataset is None else {case.name: case.group for case in dataset.cases}
    return [replace(pair, group=groups.get(pair.name)) for pair in pairs]


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
    *,
    options: Options | None = None,
) -> Report:
    """Score predictions and write the report.

    Args:
        pairs: at least one.
        labels: what the file values mean; None for one structure per value found.
        report_file: where the report goes.
        workers: processes; None for as many as fit.
        progress: called after each case.
        options: what to measure; ``workers`` overrules theirs.

    Returns:
        The report, as written.

    Raises:
        DataError: if cases cannot be scored; all are named.
    """
    options = options or Options()
    workers = options.workers if workers is None else workers
    report = score_pairs(pairs, labels, replace(options, workers=workers), progress)
    artifacts.save(report_file, report)
    return report


def score_pairs(
    pairs: Sequence[Pair],
    labels: LabelSpace | None,
    options: Options,
    progress: Progress = silent,
) -> Report:
    """Score predictions.

    Args:
        pairs: at least one.
        labels: what the file values mean; None for one structure per value found.
        options: what to measure, with how many processes.
        progress: called after each case.

    Raises:
        DataError: if cases cannot be scored; all are named.
    """
    return score_sets([pairs], labels, options, progress)[0]


def score_sets(
    sets: Sequence[Sequence[Pair]],
    labels: LabelSpace | None,
    options: Options,
    progress: Progress = silent,
) -> list[Report]:
    """Score several sets of predictions in one go, all in the same way.

    Args:
        sets: at least one, of at least one pair each.
        labels: what the file values mean; None for one structure per value found.
        options: what to measure, with how many processes.
        progress: called after each case.

    Returns:
        A report of each set.

    Raises:
        DataError: if cases cannot be scored; all are named.
    """
    pairs = [pair for of_set in sets for pair in of_set]
    label_space = labels or _labels_found(pairs)
    grids = [read_geometry(pair.reference)[0] for pair in pairs]
    tolerance = _typical_side(grids) if options.tolerance is None else options.tolerance
    wanted = Wanted(metrics=options.metrics, tolerance=tolerance)
    scored = iter(_score_all(pairs, label_space, wanted, _workers(options, grids), progress))
    unit = "pixels" if all(map(has_unknown_size, grids)) else "mm"
    return [_report(s, [next(scored) for _ in s], label_space, wanted, unit) for s in sets]


def _workers(options: Options, grids: Sequence[Geometry]) -> int:
    largest = max(math.prod(grid.shape) for grid in grids)
    return min(num_workers(options.workers, BYTES_PER_VOXEL * largest), len(grids))


def _score_all(
    pairs: Sequence[Pair], labels: LabelSpace, wanted: Wanted, workers: int, progress: Progress
) -> list[_Scored]:
    # A few large cases keep all cores busy, too: several structures at a time.
    threads = max(1, available_cores() // workers) if workers else 1
    jobs = [
        (pair.name, _Job(pair=pair, labels=labels, wanted=wanted, threads=threads))
        for pair in pairs
    ]
    outcomes = map_cases(_score, jobs, workers, progress)
    failed = [f"{o.name}: {o.error}" for o in outcomes if o.error is not None]
    if failed:
        raise DataError(f"{len(failed)} cases cannot be scored: {' | '.join(failed[:5])}")
    scored = [o.value for o in outcomes if o.value is not None]
    _warn_of_shifted([p.name for p, s in zip(pairs, scored, strict=True) if not s.aligned])
    return scored


def _report(
    pairs: Sequence[Pair],
    scored: Sequence[_Scored],
    labels: LabelSpace,
    wanted: Wanted,
    unit: Literal["mm", "pixels"],
) -> Report:
    cases = tuple(
        CaseScores(
            name=pair.name,
            structures=s.measured.structures,
            not_annotated=s.not_annotated,
            group=pair.group,
            **s.measured.whole,
        )
        for pair, s in zip(pairs, scored, strict=True)
    )
    return Report(
        predictions=str(pairs[0].prediction.parent),
        references=str(pairs[0].reference.parent),
        structures=labels.names,
        cases=cases,
        metrics=wanted.metrics,
        tolerance=wanted.tolerance if "nsd" in wanted.metrics else None,
        length_unit=unit,
        summary=summarise_structures(cases, labels.names, wanted.metrics),
        whole_cases=summarise_whole(cases, wanted.metrics),
        interval=foreground_interval(cases, labels.names),
    )


def _typical_side(grids: Sequence[Geometry]) -> float:
    """Side of the cube, or square in pictures, as large as the median voxel; two digits."""
    sides = [
        (grid.spacing[1] * grid.spacing[2]) ** (1 / 2)
        if is_picture(grid)
        else math.prod(grid.spacing) ** (1 / 3)
        for grid in grids
    ]
    return float(f"{median(sides):.2g}")


def _warn_of_shifted(shifted: Sequence[str]) -> None:
    if shifted:
        logger.warning(
            "%d predictions lie elsewhere in the world than their references, the first is '%s': "
            "they were compared voxel by voxel",
            len(shifted),
            shifted[0],
        )


def _score(job: _Job) -> _Scored:
    pair, labels = job.pair, job.labels
    prediction = read_labels(pair.prediction, labels)
    reference = read_labels(pair.reference, labels)
    if prediction.geometry.shape != reference.geometry.shape:
        raise DataError(
            f"{prediction.geometry.shape} voxels (z, y, x), its reference has "
            f"{reference.geometry.shape}",
            place=pair.prediction,
        )
    measured = measure_case(
        _indices(prediction, labels, pair.prediction),
        _indices(reference, labels, pair.reference),
        labels,
        reference.geometry,
        job.wanted,
        job.threads,
    )
    distance = reference.geometry.distance_vox(prediction.geometry)
    unknown = left_out(labels, pair.annotated)
    known = {name: s for name, s in measured.structures.items() if name not in unknown}
    return _Scored(
        # Of a whole label map nothing can be said where a part of it is not known.
        measured=replace(measured, structures=known, whole={} if unknown else measured.whole),
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
