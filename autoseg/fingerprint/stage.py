"""Raw images -> a fingerprint, and what is wrong with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.core.dataset import Case, Dataset
from autoseg.core.fingerprint import CaseFingerprint, Fingerprint, Remark
from autoseg.core.labels import LabelSpace
from autoseg.core.problem import Problem
from autoseg.core.progress import Progress, silent
from autoseg.fingerprint import kept
from autoseg.fingerprint.measure import Measurement, label_key, measure_case, summarise
from autoseg.io.case_files import largest_case_voxels, read_case
from autoseg.io.stamps import are_unchanged, stamp
from autoseg.io.workspace import TaskFolder
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
        cases: what was read this time, or given as done, by name; empty if nothing had changed.
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
    kept: Path | None


def measure_dataset(
    dataset: Dataset,
    known: Fingerprint | None = None,
    workers: int | None = None,
    progress: Progress = silent,
    *,
    done: Mapping[str, MeasuredCase] | None = None,
    task: TaskFolder | None = None,
    keep: bool = False,
) -> Measured:
    """Measure the cases of a data set whose files or labels have changed since the last time.

    Args:
        dataset: what exists and where.
        known: an earlier fingerprint, if there is one.
        workers: processes; None for as many as fit.
        progress: called after each case that is read.
        done: cases that were measured a moment ago and need not be read again.
        task: where measured cases are kept; None for nowhere.
        keep: keep there what is measured, case by case as it comes, and delete what is kept of
            cases that are gone; needs the task's lock.

    Returns:
        The fingerprint, the known one if it still holds, and the problems of all cases.
    """
    if known is not None and _still_holds(known, dataset):
        logger.debug("no file has changed: the fingerprint is kept")
        return Measured(fingerprint=known, problems=_noted(known, dataset))
    done = dict(done or {})
    if task is not None and keep:
        kept.keep_only(task, [case.name for case in dataset.cases])
    old = {} if task is None else _load_kept(dataset, task, done)
    into = task if keep else None
    jobs = [_job(dataset, c, into) for c in dataset.cases if c.name not in done | old]
    done |= _read(dataset, jobs, workers, progress)
    cases = [(old | done)[case.name] for case in dataset.cases]
    measurements = [case.measurement for case in cases if case.measurement is not None]
    fingerprint = None
    if measurements:
        fingerprint = summarise(measurements, len(dataset.channels), dataset.labels)
    problems = tuple(problem for case in cases for problem in case.problems)
    return Measured(fingerprint=fingerprint, problems=problems, cases=done)


def keep_cases(task: TaskFolder, labels: LabelSpace, cases: Mapping[str, MeasuredCase]) -> None:
    """Keep measured cases, so that they need not be read again.

    Args:
        task: where; needs its lock.
        labels: what they were measured with.
        cases: by name; one whose files cannot be used as they are is left out.
    """
    for name, case in cases.items():
        _keep(task.measured_file(name), labels, case)


def _load_kept(
    dataset: Dataset, task: TaskFolder, done: Mapping[str, MeasuredCase]
) -> dict[str, MeasuredCase]:
    """What was kept of cases whose files are still the same."""
    found: dict[str, MeasuredCase] = {}
    key = label_key(dataset.labels)
    for case in dataset.cases:
        if case.name in done:
            continue
        old = kept.load(task.measured_file(case.name), key)
        if old is not None and _is_of(old.case, dataset, case):
            problems = _remarks(old.case, dataset, case)
            found[case.name] = MeasuredCase(measurement=old, problems=problems)
    if found:
        logger.debug("%d of %d cases are as they were", len(found), len(dataset.cases))
    return found


def _keep(file: Path, labels: LabelSpace, case: MeasuredCase) -> None:
    if case.measurement is not None and not any(p.is_error for p in case.problems):
        kept.keep(file, case.measurement, label_key(labels))


def _read(
    dataset: Dataset, jobs: Sequence[_Job], workers: int | None, progress: Progress
) -> dict[str, MeasuredCase]:
    if not jobs:
        return {}
    processes = num_workers(workers, largest_case_voxels(dataset) * BYTES_PER_VOXEL)
    outcomes = map_cases(_measure, [(job.name, job) for job in jobs], processes, progress)
    return {outcome.name: _settle(outcome) for outcome in outcomes}


def _settle(outcome: Outcome[MeasuredCase]) -> MeasuredCase:
    """A case that took its worker with it, or met an error nobody foresaw, is unreadable."""
    if outcome.value is not None:
        return outcome.value
    problem = Problem(kind="unreadable", finding=str(outcome.error), case=outcome.name)
    return MeasuredCase(measurement=None, problems=(problem,))


def _job(dataset: Dataset, case: Case, task: TaskFolder | None) -> _Job:
    return _Job(
        name=case.name,
        images=dataset.image_paths(case),
        label=dataset.label_path(case),
        labels=dataset.labels,
        num_channels=len(dataset.channels),
        kept=None if task is None else task.measured_file(case.name),
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
    measured = MeasuredCase(
        measurement=Measurement(case=case, sketches=measurement.sketches), problems=files.problems
    )
    if job.kept is not None:
        _keep(job.kept, job.labels, measured)
    return measured


def _still_holds(known: Fingerprint, dataset: Dataset) -> bool:
    """Whether a fingerprint is of exactly these cases, labels and files."""
    if [case.name for case in known.cases] != [case.name for case in dataset.cases]:
        return False
    if known.label_key != label_key(dataset.labels):
        return False
    return all(
        _is_of(seen, dataset, case) for case, seen in zip(dataset.cases, known.cases, strict=True)
    )


def _is_of(seen: CaseFingerprint, dataset: Dataset, case: Case) -> bool:
    """Whether measurements, made with these labels, are of a case as it is now."""
    if seen.name != case.name or len(seen.channels) != len(dataset.channels):
        return False
    if len(seen.label_voxels) != dataset.labels.num_classes - 1:
        return False
    return are_unchanged(_files(dataset, case), seen.files)


def _noted(known: Fingerprint, dataset: Dataset) -> tuple[Problem, ...]:
    """What was noticed when the files were read."""
    return tuple(
        problem
        for case, seen in zip(dataset.cases, known.cases, strict=True)
        for problem in _remarks(seen, dataset, case)
    )


def _remarks(seen: CaseFingerprint, dataset: Dataset, case: Case) -> tuple[Problem, ...]:
    paths = _files(dataset, case)
    return tuple(
        Problem(kind=remark.kind, finding=remark.finding, case=case.name, file=paths[remark.file])
        for remark in seen.remarks
    )


def _files(dataset: Dataset, case: Case) -> tuple[Path, ...]:
    return (*dataset.image_paths(case), dataset.label_path(case))
