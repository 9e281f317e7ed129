"""Raw images -> a fingerprint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from autoseg.core.dataset import Dataset
from autoseg.core.fingerprint import FileStamp, Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.progress import Progress, silent
from autoseg.errors import DataError
from autoseg.fingerprint.measure import Measurement, measure_case, summarise
from autoseg.io import atomic
from autoseg.io.images import check_same_grid, read_geometry, read_image, read_labels
from autoseg.workers import map_cases, num_workers

logger = logging.getLogger(__name__)

MOST_LISTED = 5
BYTES_PER_VOXEL = 20
"""While measuring: the file's numbers, float32, masks and the labels in two types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    name: str
    images: tuple[Path, ...]
    label: Path
    labels: LabelSpace
    num_channels: int


def fingerprint_dataset(
    dataset: Dataset,
    known: Fingerprint | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Fingerprint:
    """Measure every case of a data set, unless no file has changed since the last time.

    Args:
        dataset: what exists and where.
        known: an earlier fingerprint, if there is one.
        workers: processes; None for as many as fit.
        progress: called after each case.

    Returns:
        The fingerprint; the known one if it still holds.

    Raises:
        DataError: if cases cannot be measured; all of them are named at once.
    """
    if known is not None and _still_holds(known, dataset):
        logger.debug("no file has changed: the fingerprint is kept")
        return known
    jobs = [(case.name, _job(dataset, case.name)) for case in dataset.cases]
    processes = num_workers(workers, _bytes_of_largest(dataset))
    outcomes = map_cases(_measure, jobs, processes, progress)
    _refuse_failures([f"{o.name}: {o.error}" for o in outcomes if o.error is not None])
    measurements = [o.value for o in outcomes if o.value is not None]
    return summarise(measurements, len(dataset.channels), dataset.labels)


def _bytes_of_largest(dataset: Dataset) -> int:
    """Memory the case with the largest file takes while it is measured; 0 if it is broken."""
    files = [path for case in dataset.cases for path in dataset.image_paths(case)]
    try:
        largest = max(files, key=lambda path: path.stat().st_size)
        geometry, _ = read_geometry(largest)
    except (OSError, DataError):
        return 0
    return prod(geometry.shape) * len(dataset.channels) * BYTES_PER_VOXEL


def _job(dataset: Dataset, name: str) -> _Job:
    case = dataset.case(name)
    return _Job(
        name=name,
        images=dataset.image_paths(case),
        label=dataset.label_path(case),
        labels=dataset.labels,
        num_channels=len(dataset.channels),
    )


def _measure(job: _Job) -> Measurement:
    image, label_map = read_image(job.images), read_labels(job.label)
    if image.num_channels != job.num_channels:
        raise DataError(
            f"{image.num_channels} channels, but {job.num_channels} are declared",
            place=job.images[0],
        )
    check_same_grid(image.geometry, label_map.geometry, job.label, "the image's grid")
    unknown = job.labels.undeclared(np.unique(label_map.array))
    if unknown:
        raise DataError(
            f"label values {list(unknown)} are not declared",
            place=job.label,
            remedy="declare them under 'labels' of dataset.json",
        )
    indices = job.labels.to_indices(label_map.array)
    stamps = [stamp(path) for path in (*job.images, job.label)]
    return measure_case(job.name, image, indices, job.labels, stamps)


def stamp(path: Path) -> FileStamp:
    """What a file looks like now."""
    status = path.stat()
    return FileStamp(
        size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, digest=atomic.digest(path)
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
        _are_unchanged((*dataset.image_paths(case), dataset.label_path(case)), seen.files)
        for case, seen in zip(dataset.cases, known.cases, strict=True)
    )


def _are_unchanged(paths: Sequence[Path], seen: Sequence[FileStamp]) -> bool:
    return len(paths) == len(seen) and all(map(_is_unchanged, paths, seen))


def _is_unchanged(path: Path, seen: FileStamp) -> bool:
    """Size and time first; the content only where the time alone differs."""
    status = path.stat()
    if status.st_size != seen.size_bytes:
        return False
    return status.st_mtime_ns == seen.mtime_ns or atomic.digest(path) == seen.digest


def _refuse_failures(problems: Sequence[str]) -> None:
    if problems:
        listed = " | ".join(problems[:MOST_LISTED])
        more = len(problems) - MOST_LISTED
        raise DataError(
            f"{len(problems)} cases cannot be used: {listed}"
            + (f" | and {more} more" if more > 0 else ""),
            remedy="mend or remove them and repeat the command",
        )
