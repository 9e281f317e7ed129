"""A case read with all that is wrong with its files, instead of the first error only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.alignment import find_misfit
from autoseg.core.dataset import Dataset
from autoseg.core.geometry import Geometry
from autoseg.core.image import Image
from autoseg.core.labels import LabelSpace
from autoseg.core.problem import Problem
from autoseg.core.words import counted
from autoseg.errors import AutosegError, DataError
from autoseg.io.formats import READERS, reader_of
from autoseg.io.images import read_geometry, whole_numbers
from autoseg.io.stamps import size_bytes

MOST_VALUES_LISTED = 8

Tell = Callable[[str, str, Path], None]
"""Notes a problem: its kind, what was found, the file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseFiles:
    """What the files of a case hold, as far as they can be used.

    Attributes:
        image: all channels; NaN and infinite voxels have the lowest value of their channel.
            None if a file cannot be read or the channels do not fit together.
        labels: indices of the label space, ``(z, y, x)``; None if the label map cannot be
            read, has another shape than the image, or has values that mean nothing.
        problems: all that is wrong, in the order of the files.
        patient: hash of the patient's identity, where the files tell it.
    """

    image: Image | None
    labels: npt.NDArray[np.signedinteger] | None
    problems: tuple[Problem, ...]
    patient: str | None = None


def read_case(
    name: str, images: Sequence[Path], label: Path, labels: LabelSpace, num_channels: int
) -> CaseFiles:
    """Read a case; what is wrong with its files is told, not raised.

    Args:
        name: the case.
        images: a file per channel, or one that holds them all.
        label: the label map's file.
        labels: what is declared.
        num_channels: how many channels are declared.

    Returns:
        Image, labels and problems; every file is read once, whatever is wrong with others.
    """
    problems: list[Problem] = []

    def tell(kind: str, finding: str, file: Path) -> None:
        problems.append(Problem(kind=kind, finding=finding, case=name, file=file))

    image, grid = _read_channels(images, num_channels, tell)
    indices = _read_indices(label, labels, grid, tell)
    return CaseFiles(
        image=image,
        labels=indices,
        problems=tuple(problems),
        patient=_patient_of(images[0]) if image is not None else None,
    )


def largest_case_voxels(dataset: Dataset) -> int:
    """Voxels times channels of the case with the largest image file; 0 if that is broken."""
    files = [path for case in dataset.cases for path in dataset.image_paths(case)]
    try:
        largest = max(files, key=size_bytes, default=None)
        if largest is None:
            return 0
        geometry, _ = read_geometry(largest)
    except (OSError, AutosegError):
        return 0
    return prod(geometry.shape) * len(dataset.channels)


def lowest_for_not_finite(
    array: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.floating], int]:
    """Give NaN and infinite voxels the lowest finite value.

    Args:
        array: any shape; left as it is.

    Returns:
        The array itself if all is finite, else a copy; and the number of voxels changed. Where
        nothing is finite all becomes 0.
    """
    # A sum is finite only if every term is; it costs no array of its own.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return array, 0
    is_finite = np.isfinite(array)
    lowest = array[is_finite].min() if is_finite.any() else 0.0
    return np.where(is_finite, array, lowest).astype(array.dtype), int((~is_finite).sum())


def _read_channels(
    paths: Sequence[Path], num_channels: int, tell: Tell
) -> tuple[Image | None, Geometry | None]:
    """The image, and the grid of its first readable file."""
    parts: list[npt.NDArray[np.float32]] = []
    grid: Geometry | None = None
    is_whole = True
    for path in paths:
        read = _attempt(lambda path=path: reader_of(path).read(path), path, tell)
        if read is None:
            is_whole = False
            continue
        array, geometry = read
        grid = geometry if grid is None else grid
        is_whole &= _fits(grid, geometry, path, tell)
        parts.append(_finite(array, path, tell))
    if not is_whole:
        return None, grid
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(array) != num_channels:
        tell("channels", f"{counted(len(array), 'channel')}, but {num_channels} declared", paths[0])
        return None, grid
    assert grid is not None
    return Image(array=np.ascontiguousarray(array), geometry=grid), grid


def _finite(array: npt.NDArray[Any], path: Path, tell: Tell) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is told below
        converted = array.astype(np.float32, copy=False)
    finite, count = lowest_for_not_finite(converted)
    if count:
        tell("not-finite", f"{count:,} of {array.size:,} voxels", path)
    return finite


def _read_indices(
    path: Path, labels: LabelSpace, grid: Geometry | None, tell: Tell
) -> npt.NDArray[np.signedinteger] | None:
    read = _attempt(lambda: reader_of(path).read_labels(path, labels), path, tell)
    if read is None:
        return None
    array, geometry = read
    is_on_grid = grid is not None and _fits(grid, geometry, path, tell)
    try:
        values = whole_numbers(array, path)
    except DataError as error:
        tell("fractional-labels", error.finding, path)
        return None
    try:
        indices = labels.to_indices(values)
    except ValueError:
        tell("undeclared-labels", _undeclared(values, labels), path)
        return None
    return indices if is_on_grid else None


def _undeclared(values: npt.NDArray[np.integer], labels: LabelSpace) -> str:
    unknown = labels.undeclared(np.unique(values))
    listed = [f"{v} in {np.count_nonzero(values == v):,} voxels" for v in unknown]
    more = len(listed) - MOST_VALUES_LISTED
    return ", ".join(listed[:MOST_VALUES_LISTED]) + (f", and {more} more" if more > 0 else "")


def _fits(grid: Geometry, geometry: Geometry, path: Path, tell: Tell) -> bool:
    """Whether the shape is that of the grid; any other difference is told only."""
    misfit = find_misfit(grid, geometry)
    if misfit is not None:
        tell(misfit.kind, misfit.finding, path)
    return grid.shape == geometry.shape


def _attempt(
    read: Callable[[], tuple[npt.NDArray[Any], Geometry]], path: Path, tell: Tell
) -> tuple[npt.NDArray[Any], Geometry] | None:
    """What was read, or None and the reason told."""
    try:
        return read()
    except AutosegError as error:
        finding = " ".join(error.finding.split())
        # The words of Geometry, which every reader makes, and of nibabel.
        is_spacing = "spacing must be" in finding or "pixdim" in finding
        kind = "spacing" if is_spacing else "unreadable"
        tell(kind, finding if error.remedy is None else f"{finding}; {error.remedy}", path)
    except OSError as error:
        tell("unreadable", error.strerror or str(error), path)
    return None


def _patient_of(path: Path) -> str | None:
    """A hash, so that nothing a hospital must keep to itself gets into the workspace."""
    if reader_of(path) is not READERS.get("dicom"):
        return None
    from autoseg.io.readers.dicom import read_patient

    patient = read_patient(path)
    if not patient:
        return None
    return hashlib.blake2b(patient.encode(), digest_size=8).hexdigest()
