"""``autoseg check --mend``: broken raw files -> mended copies in the workspace."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.check.mend import Mend, Part, check_targets, mend_parts
from autoseg.core.dataset import Case, Dataset
from autoseg.core.geometry import Geometry
from autoseg.core.labels import LabelSpace
from autoseg.core.problem import Problem
from autoseg.core.progress import Progress, silent
from autoseg.core.words import counted
from autoseg.errors import DataError
from autoseg.io.case_files import largest_case_voxels
from autoseg.io.formats import reader_of
from autoseg.io.mended import (
    LeftOut,
    MendedFile,
    Mends,
    Source,
    save_mends,
    sources_of,
    write_copy,
)
from autoseg.io.respace import read_with_spacing
from autoseg.io.survey import TaskSurvey
from autoseg.io.workspace import TaskFolder
from autoseg.workers import map_cases, num_workers

logger = logging.getLogger(__name__)

BYTES_PER_VOXEL = 24
"""While mending: the file's numbers, those mended, and those being written."""

MOST_TOLD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mending:
    """What was mended.

    Attributes:
        told: a line for each wish.
        cases: names of the cases whose files are others now.
    """

    told: tuple[str, ...]
    cases: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What ``autoseg check`` found.

    Attributes:
        name: of the task.
        root: folder of the raw data.
        num_cases: cases that are used, broken ones included.
        problems: everything that is wrong.
        told: what was mended just now, a line for each wish.
        mends: all that was ever mended and holds.
    """

    name: str
    root: Path
    num_cases: int
    problems: tuple[Problem, ...]
    told: tuple[str, ...]
    mends: Mends

    @classmethod
    def of(
        cls, folder: Path, survey: TaskSurvey, problems: Iterable[Problem], told: Sequence[str]
    ) -> CheckResult:
        """Put together what was found in a folder, a data set or not."""
        dataset = survey.dataset
        return cls(
            name=survey.name or folder.name,
            root=folder if dataset is None else dataset.root,
            num_cases=0 if dataset is None else len(dataset.cases),
            problems=tuple(problems),
            told=tuple(told),
            mends=survey.mends,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A raw file and where its voxels are now: there, or in mended copies of one channel each."""

    raw: Path
    now: tuple[Path, ...]
    done: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    name: str
    images: tuple[_File, ...]
    label: _File
    labels: LabelSpace
    mends: tuple[Mend, ...]
    sources: tuple[Source, ...]
    folder: Path


def mend_dataset(
    task: TaskFolder,
    raw: Dataset,
    known: Mends,
    problems: Iterable[Problem],
    wishes: Sequence[Mend],
    workers: int | None = None,
    progress: Progress = silent,
) -> Mending:
    """Mend what can be mended of some problems, and leave out cases the user wants left out.

    Args:
        task: the task's folder; mended copies and a list of them are written there.
        raw: the data set as its layout says, without mended copies.
        known: what was mended before; it is mended further.
        problems: what is wrong now.
        wishes: what to mend, and how.
        workers: processes; None for as many as fit.
        progress: called after each case.

    Returns:
        What was done, in words.

    Raises:
        AutosegError: if a wish cannot be, or a file cannot be written.
    """
    check_targets(wishes, raw.labels)
    listed = list(problems)
    left_out = _left_out(raw, listed, wishes)
    jobs = [
        job
        for case in raw.cases
        if case.name not in left_out
        and (job := _job(task, raw, known, case, listed, wishes)) is not None
    ]
    processes = num_workers(workers, largest_case_voxels(raw) * BYTES_PER_VOXEL)
    outcomes = map_cases(_mend_case, [(job.name, job) for job in jobs], processes, progress)
    failures = [f"{o.name}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        listed_failures = " | ".join(failures[:MOST_TOLD])
        logger.warning("%s cannot be mended: %s", _count(len(failures), "case"), listed_failures)
    mended = [file for outcome in outcomes for file in outcome.value or ()]
    _save(task, known, mended, list(left_out.values()))
    done = Counter(text for file in mended for text in set(file.done))
    before = Counter(text for file in mended for text in _done_before(known, file))
    names = {outcome.name for outcome in outcomes if outcome.value}
    return Mending(
        told=tuple(_told(wish, done - before, left_out) for wish in wishes),
        cases=frozenset(names | set(left_out)),
    )


def _left_out(
    raw: Dataset, problems: Sequence[Problem], wishes: Sequence[Mend]
) -> dict[str, LeftOut]:
    kinds = {wish.what for wish in wishes if wish.leaves_out}
    complete = {case.name: case for case in raw.cases}
    found: dict[str, LeftOut] = {}
    for problem in problems:
        if problem.case is None or problem.kind not in kinds:
            continue
        case = complete.get(problem.case)
        sources = None if case is None else sources_of(_paths(raw, case))
        entry = LeftOut(
            case=problem.case, kind=problem.kind, finding=problem.finding, sources=sources
        )
        found.setdefault(problem.case, entry)
    return found


def _job(
    task: TaskFolder,
    raw: Dataset,
    known: Mends,
    case: Case,
    problems: Sequence[Problem],
    wishes: Sequence[Mend],
) -> _Job | None:
    kinds = {problem.kind for problem in problems if problem.case == case.name}
    mends = tuple(w for w in wishes if not w.leaves_out and kinds & set(w.kinds))
    if not mends:
        return None

    def file(path: Path) -> _File:
        entry = known.of(path)
        if entry is None:
            return _File(raw=path, now=(path,), done=())
        now = tuple(task.mended / name for name in entry.copies)
        return _File(raw=path, now=now, done=entry.done)

    return _Job(
        name=case.name,
        images=tuple(map(file, raw.image_paths(case))),
        label=file(raw.label_path(case)),
        labels=raw.labels,
        mends=mends,
        sources=sources_of(_paths(raw, case)),
        folder=task.mended,
    )


def _mend_case(job: _Job) -> tuple[MendedFile, ...]:
    """Read, mend and write what has changed; in the worker."""
    images = [_read_image(file, job.mends) for file in job.images]
    label = _read_label(job.label, job.labels, job.mends)
    mend_parts(images, label, job.mends, job.labels.background)
    files: list[MendedFile] = []
    first = 0
    for part, file in zip((*images, label), (*job.images, job.label), strict=True):
        names = [f"{job.name}_{first + i:04d}.nii.gz" for i in range(len(part.array))]
        first += len(part.array)
        if part is label:
            names = [f"{job.name}_label.nii.gz"]
        if not part.done:
            continue
        for name, channel in zip(names, part.array, strict=True):
            write_copy(job.folder / name, channel, part.geometry)
        files.append(
            MendedFile(
                raw=file.raw,
                copies=tuple(names),
                done=(*file.done, *part.done),
                sources=job.sources,
            )
        )
    return tuple(files)


def _read_image(file: _File, mends: Sequence[Mend]) -> Part:
    done: list[str] = []
    read = [_read(path, mends, done) for path in file.now]
    with np.errstate(over="ignore"):
        arrays = [array.astype(np.float32, copy=False) for array, _ in read]
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return Part(raw=file.raw, array=array, geometry=read[0][1], done=done)


def _read_label(file: _File, labels: LabelSpace, mends: Sequence[Mend]) -> Part:
    done: list[str] = []
    try:
        array, geometry = reader_of(file.now[0]).read_labels(file.now[0], labels)
    except DataError:
        channels, geometry = _read(file.now[0], mends, done)
        array = channels[0]
    return Part(raw=file.raw, array=array[np.newaxis], geometry=geometry, done=done)


def _read(path: Path, mends: Sequence[Mend], done: list[str]) -> tuple[npt.NDArray[Any], Geometry]:
    """Read a file; one that gives its voxels no size, with that of a wish."""
    try:
        return reader_of(path).read(path)
    except DataError:
        wish = next((mend for mend in mends if mend.spacing is not None), None)
        if wish is None or wish.spacing is None or not path.name.endswith((".nii", ".nii.gz")):
            raise
        done.append(wish.text)
        return read_with_spacing(path, wish.spacing)


def _save(
    task: TaskFolder, known: Mends, mended: Sequence[MendedFile], left_out: Sequence[LeftOut]
) -> None:
    if not mended and not left_out:
        return
    files = {file.raw: file for file in (*known.files, *mended)}
    cases = {entry.case: entry for entry in (*known.left_out, *left_out)}
    save_mends(task, Mends(files=tuple(files.values()), left_out=tuple(cases.values())))


def _done_before(known: Mends, file: MendedFile) -> set[str]:
    entry = known.of(file.raw)
    return set() if entry is None else set(entry.done)


def _told(wish: Mend, done: Counter[str], left_out: dict[str, LeftOut]) -> str:
    if wish.leaves_out:
        count = sum(entry.kind == wish.what for entry in left_out.values())
        return f"{wish.text}: {_count(count, 'case')} left out"
    return f"{wish.text}: {_count(done[wish.text], 'file')} mended"


def _count(number: int, what: str) -> str:
    return counted(number, what) if number else f"no {what}s"


def _paths(raw: Dataset, case: Case) -> tuple[Path, ...]:
    return (*raw.image_paths(case), raw.label_path(case))
