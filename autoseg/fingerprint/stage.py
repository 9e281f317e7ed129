"""Raw images -> a fingerprint, and what is wrong with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.core.dataset import Dataset
from autoseg.core.fingerprint import Fingerprint, Remark
from autoseg.core.labels import LabelSpace
from autoseg.core.problem import Problem
from autoseg.core.progress import Progress, silent
from autoseg.fingerprint.measure import Measurement, measure_case, summarise
from autoseg.io.case_files import largest_case_voxels, read_case
from autoseg.io.stamps import are_unchanged, stamp
from autoseg.workers import Outcome, map_cases, num_workers

logger = logging.getLogger(__name__)

BYTES_PER_VOXEL = 20
"""While measuring: the file's numbers, float32, masks and the labels in two types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCase:
    """What became of one case.

    Attributes:
        measurement: what was measured; None if the image cannot be used.
        problems: what is wrong with its files.
    """

    measurement: Measurement | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A data set, measured.

    Attributes:
        fingerprint: all cases whose images can be used, those of broken label maps too, so
            that cases can be compared: fit to plan with only if there is no error among the
            problems. None if there is no such case.
        problems: what is wrong with the files of single cases.
        cases: what was read this time, by name; empty if nothing had changed.
    """

    fingerprint: Fingerprint | None
    problems: tuple[Problem, ...]
    cases: Mapping[str, MeasuredCase] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    name: str
    images: tuple[Path, ...]
    label: Path
    labels: LabelSpace
    num_channels: int


def measure_dataset(
    dataset: Dataset,
    known: Fingerprint | None = None,
    workers: int | None = None,
    progress: Progress = silent,
    *,
    done: Mapping[str, MeasuredCase] | None = None,
) -> Measured:
    """Measure every case of a data set, unless no file has changed since the last time.

    Args:
        dataset: what exists and where.
        known: an earlier fingerprint, if there is one.
        workers: processes; None for as many as fit.
        progress: called after each case.
        done: cases that were measured a moment ago and need not be read again.

    Returns:
        The fingerprint, the known one if it still holds, and the problems of all cases.
    """
    if known is not None and _still_holds(known, dataset):
        logger.debug("no file has changed: the fingerprint is kept")
        return Measured(fingerprint=known, problems=_noted(known, dataset))
    done = done or {}
    jobs = [(case.name, _job(dataset, case.name)) for case in dataset.cases]
    jobs = [job for job in jobs if job[0] not in done]
    processes = num_workers(workers, largest_case_voxels(dataset) * BYTES_PER_VOXEL)
    outcomes = map_cases(_measure, jobs, processes, progress)
    read = {outcome.name: _settle(outcome) for outcome in outcomes}
    cases = {case.name: (read | dict(done))[case.name] for case in dataset.cases}
    measurements = [case.measurement for case in cases.values() if case.measurement is not None]
    fingerprint = None
    if measurements:
        fingerprint = summarise(measurements, len(dataset.channels), dataset.labels)
    problems = tuple(problem for case in cases.values() for problem in case.problems)
    return Measured(fingerprint=fingerprint, problems=problems, cases=cases)


def _settle(outcome: Outcome[MeasuredCase]) -> MeasuredCase:
    """A case that took its worker with it, or met an error nobody foresaw, is unreadable."""
    if outcome.value is not None:
        return outcome.value
    problem = Problem(kind="unreadable", finding=str(outcome.error), case=outcome.name)
    return MeasuredCase(measurement=None, problems=(problem,))


def _job(dataset: Dataset, name: str) -> _Job:
    case = dataset.case(name)
    return _Job(
        name=name,
        images=dataset.image_paths(case),
        label=dataset.label_path(case),
        labels=dataset.labels,
        num_channels=len(dataset.channels),
    )


def _measure(job: _Job) -> MeasuredCase:
    files = read_case(job.name, job.images, job.label, job.labels, job.num_channels)
    if files.image is None:
        return MeasuredCase(measurement=None, problems=files.problems)
    paths = (*job.images, job.label)
    stamps = [stamp(path) for path in paths if path.exists()]
    measurement = measure_case(job.name, files.image, files.labels, job.labels, stamps)
    noted = {
        "patient": files.patient,
        "remarks": tuple(
            Remark(kind=problem.kind, finding=problem.finding, file=paths.index(problem.file))
            for problem in files.problems
            if problem.file is not None and not problem.is_error
        ),
    }
    case = measurement.case.model_copy(update=noted)
    return MeasuredCase(
        measurement=Measurement(case=case, sketches=measurement.sketches), problems=files.problems
    )


def _still_holds(known: Fingerprint, dataset: Dataset) -> bool:
    """Whether a fingerprint is of exactly these cases, labels and files."""
    if [case.name for case in known.cases] != [case.name for case in dataset.cases]:
        return False
    if len(known.intensities) != len(dataset.channels):
        return False
    num_classes = dataset.labels.num_classes
    if known.label_values != dataset.labels.values or any(
        len(case.label_voxels) != num_classes - 1 for case in known.cases
    ):
        return False
    return all(
        are_unchanged((*dataset.image_paths(case), dataset.label_path(case)), seen.files)
        for case, seen in zip(dataset.cases, known.cases, strict=True)
    )


def _noted(known: Fingerprint, dataset: Dataset) -> tuple[Problem, ...]:
    """What was noticed when the files were read."""
    problems: list[Problem] = []
    for case, seen in zip(dataset.cases, known.cases, strict=True):
        paths = (*dataset.image_paths(case), dataset.label_path(case))
        problems += [
            Problem(
                kind=remark.kind, finding=remark.finding, case=case.name, file=paths[remark.file]
            )
            for remark in seen.remarks
        ]
    return tuple(problems)
