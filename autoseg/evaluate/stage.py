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
from autoseg.evaluate.overlap import ignore_alike
from autoseg.evaluate.pairs import Pair, match_folders, with_annotated, with_groups
from autoseg.evaluate.statistics import (
    foreground_interval,
    summarise_structures,
    summarise_whole,
)
from autoseg.io import artifacts
from autoseg.io.images import read_geometry, read_labels
from autoseg.io.machine import available_cores
from autoseg.io.workspace import REPORT_NAME
from autoseg.workers import Outcome, map_cases, num_workers

logger = logging.getLogger(__name__)

ALIGNED_VOX = 1e-3

BYTES_PER_VOXEL = 16
"""Memory of a case at its peak: label maps as read and as indices, and the box of a structure."""


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
    predicts_ignore: bool


class _UndeclaredError(DataError):
    """A label map holds values that are not declared."""


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
    options = _with_workers(options, workers)
    (report,) = score_folders(
        [pairs], labels, options, progress, must_fit=must_fit, dataset=dataset
    )
    path = predictions / REPORT_NAME
    artifacts.save(path, report)
    return Evaluated(report=report, path=path)


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
    report = score_pairs(pairs, labels, _with_workers(options, workers), progress)
    artifacts.save(report_file, report)
    return report


def _with_workers(options: Options | None, workers: int | None) -> Options:
    options = options or Options()
    return options if workers is None else replace(options, workers=workers)


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


def score_folders(
    sets: Sequence[Sequence[Pair]],
    labels: LabelSpace | None,
    options: Options,
    progress: Progress = silent,
    *,
    must_fit: bool = True,
    dataset: Dataset | None = None,
) -> list[Report]:
    """Score several sets of predictions with the labels of a task where they fit all label maps.

    Args:
        sets: at least one, of at least one pair each.
        labels: what the file values mean; None for one structure per value found.
        options: what to measure, with how many processes.
        progress: called after each case.
        must_fit: whether label maps with other values are an error; else the values found count
            for all sets, and it is told which of both was done.
        dataset: of the task; tells what references are annotated for, as ``with_annotated`` says.

    Returns:
        A report of each set.

    Raises:
        DataError: if cases cannot be scored; all are named.
    """
    if labels is None:
        return score_sets(sets, None, options, progress)
    task = "the current task" if dataset is None else f"the current task {dataset.name}"
    try:
        if not must_fit:
            # Other data mostly show in the first case, before all are scored for nothing.
            _check_declared(sets[0][0], labels)
        if dataset is not None:
            sets = [with_annotated(pairs, dataset, by_name=must_fit) for pairs in sets]
        reports = score_sets(sets, labels, options, progress)
    except _UndeclaredError as error:
        if must_fit:
            raise
        reason = error.__cause__ or error
        logger.info("structures are named by their values, not as in %s: %s", task, reason)
        sets = [[replace(pair, annotated=None) for pair in pairs] for pairs in sets]
        return score_sets(sets, None, options, progress)
    if not must_fit:
        logger.info("structures are those of %s, which declares all values found", task)
    return reports


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
    scored = [o.value for o in outcomes if isinstance(o.value, _Scored)]
    if len(scored) < len(outcomes):
        raise _failure(outcomes)
    _warn_of_shifted([p.name for p, s in zip(pairs, scored, strict=True) if not s.aligned])
    _warn_of_ignored([p.name for p, s in zip(pairs, scored, strict=True) if s.predicts_ignore])
    return scored


def _failure(outcomes: Sequence[Outcome[_Scored | _UndeclaredError]]) -> DataError:
    """The error that names all cases without scores; what it is if values alone are to blame."""
    strange = [o.value for o in outcomes if isinstance(o.value, _UndeclaredError)]
    failed = [
        f"{o.name}: {o.error or o.value}" for o in outcomes if not isinstance(o.value, _Scored)
    ]
    finding = f"{len(failed)} cases cannot be scored: {' | '.join(failed[:5])}"
    if len(strange) < len(failed):
        return DataError(finding)
    error = _UndeclaredError(finding)
    error.__cause__ = strange[0]
    return error


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


def _warn_of_ignored(names: Sequence[str]) -> None:
    if names:
        logger.warning(
            "%s the ignore label, the first is '%s': these voxels are left out of all scores, as "
            "are those of the references",
            f"{counted(len(names), 'prediction')} {'holds' if len(names) == 1 else 'hold'}",
            names[0],
        )


def _score(job: _Job) -> _Scored | _UndeclaredError:
    try:
        return _compare(job)
    except _UndeclaredError as error:  # of errors that are raised only the words come back
        return error


def _compare(job: _Job) -> _Scored:
    pair, labels = job.pair, job.labels
    prediction = read_labels(pair.prediction, labels)
    reference = read_labels(pair.reference, labels)
    if prediction.geometry.shape != reference.geometry.shape:
        raise DataError(
            f"{prediction.geometry.shape} voxels (z, y, x), its reference has "
            f"{reference.geometry.shape}",
            place=pair.prediction,
        )
    predicted = _indices(prediction, labels, pair.prediction)
    shown, true = ignore_alike(predicted, _indices(reference, labels, pair.reference), labels)
    measured = measure_case(
        shown,
        true,
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
        predicts_ignore=shown is not predicted,
    )


def _indices(label_map: LabelMap, labels: LabelSpace, path: Path) -> np.ndarray:
    try:
        return labels.to_indices(label_map.array)
    except ValueError as error:
        known = ", ".join(map(str, labels.values))
        raise _UndeclaredError(f"{error} (declared: {known})", place=path) from None


def _check_declared(pair: Pair, labels: LabelSpace) -> None:
    for path in (pair.prediction, pair.reference):
        _indices(read_labels(path, labels), labels, path)


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
