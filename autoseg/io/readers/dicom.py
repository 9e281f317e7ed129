"""DICOM series: a folder of slices, or a file with all frames, as one volume."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.errors import AutosegError, DataError
from autoseg.io.readers.base import Reader
from autoseg.io.readers.dicom_files import (
    SUFFIXES,
    dicom_files,
    holds_dicom,
    object_class,
    other_object,
)
from autoseg.io.readers.dicom_header import DicomFile, read_header, read_patient_id, read_voxels
from autoseg.io.readers.dicom_stack import num_orientations, stack

logger = logging.getLogger(__name__)

_NUM_SERIES_TO_LIST = 8


class DicomReader(Reader):
    """A folder with one DICOM series, or a DICOM file.

    A file is a volume of its own if it is an enhanced multi-frame one, else a single slice.
    Voxels are rescaled as the header says. What is stored with white as the lowest value
    (MONOCHROME1, rarely met in volumes) is inverted by ITK, so that high is bright.
    """

    suffixes = SUFFIXES
    reads_folders: ClassVar[bool] = True
    can_write: ClassVar[bool] = False

    def reads(self, path: Path) -> bool:
        """Whether a folder holds DICOM files, or a file has an ending of DICOM."""
        return holds_dicom(path) if path.is_dir() else super().reads(path)

    def read_geometry(self, path: Path) -> tuple[Geometry, int]:
        """Read the headers: geometry and number of channels.

        Raises:
            DataError: as ``read``.
        """
        volume = _find_volume(path)
        return volume.geometry, volume.files[0].num_channels

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a series or a file.

        Args:
            path: a folder whose files are the slices of one series, in any order, or one file.
                Scouts and objects that are no images are let pass beside a volume.

        Returns:
            The voxels ``(channels, z, y, x)``, z rising along row x column direction, and their
            geometry; float32, or an integer type if every slice has whole slope and intercept.

        Raises:
            DataError: if there is not exactly one volume, a file is not readable, or the slices
                make no regular grid (tilted, missing, uneven, several at one position).
        """
        volume = _find_volume(path)
        files, geometry = volume.files, volume.geometry
        is_float = any(file.dtype == np.float32 for file in files)
        kind = np.float32 if is_float else np.result_type(*(file.dtype for file in files))
        array = np.empty((files[0].num_channels, *geometry.shape), kind)
        if len(files) == 1:
            read_voxels(files[0], array)
            return array[:, volume.order], geometry
        for place, index in enumerate(volume.order):
            read_voxels(files[index], array[:, place : place + 1])
        return array, geometry

    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> NoReturn:
        """Refuse to write: a label map is no DICOM image.

        Raises:
            AutosegError: always.
        """
        del array, geometry
        raise AutosegError(
            "label maps and images are not written as DICOM",
            place=path,
            remedy="write another format, such as .nii.gz",
        )

    def label_suffix(self, path: Path) -> None:
        """None: label maps of DICOM images are NIfTI files."""
        del path


DICOM = DicomReader()


def read_patient(path: Path) -> str | None:
    """The PatientID of a series, by which cases of one patient are kept together.

    Args:
        path: a folder with a DICOM series, or a DICOM file.

    Returns:
        None if it has none.

    Raises:
        DataError: if there is no readable image.
    """
    return read_patient_id(_images(path)[0][0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Volume:
    """Files of a volume, and the order of their planes along the normal."""

    files: list[DicomFile]
    order: list[int]
    geometry: Geometry


def _find_volume(path: Path) -> _Volume:
    paths, others = _images(path)
    files = _without_copies(_choose([read_header(file) for file in paths], others, path))
    _refuse_unequal(files, path)
    planes = [plane for file in files for plane in file.planes]
    order, geometry = stack(planes, files[0].size, path)
    return _Volume(files=files, order=order, geometry=geometry)


def _images(path: Path) -> tuple[list[Path], Counter[str]]:
    """The file, or image files of a folder, and how many other objects of each kind there are."""
    if not path.exists():
        raise DataError("no such file or folder", place=path)
    images: list[Path] = []
    others: Counter[str] = Counter()
    for file in dicom_files(path) if path.is_dir() else [path]:
        other = other_object(object_class(file) or "")
        if other is None:
            images.append(file)
        else:
            others[other] += 1
    if not images:
        found = f" (only {_listing(others)})" if others else ""
        raise DataError(f"holds no DICOM image{found}", place=path)
    return images, others


def _choose(files: Sequence[DicomFile], others: Counter[str], folder: Path) -> list[DicomFile]:
    """The files of the one series that is a volume; scouts beside it are let pass."""
    series: dict[str, list[DicomFile]] = {}
    for file in files:
        series.setdefault(file.series, []).append(file)
    chosen = list(series.values())
    if len(chosen) > 1:
        chosen = [group for group in chosen if not _is_scout(group)]
    if len(chosen) != 1:
        described = [_describe(group) for group in series.values()]
        more = len(described) - _NUM_SERIES_TO_LIST
        found = "; ".join(described[:_NUM_SERIES_TO_LIST]) + (f"; {more} more" if more > 0 else "")
        raise DataError(
            f"holds {len(series)} series: {found}",
            place=folder,
            remedy="give each series a folder of its own",
        )
    left_out = [_describe(group) for group in series.values() if group is not chosen[0]]
    left_out += [_listing(others)] if others else []
    if left_out:
        logger.debug("%s: left out %s", folder, "; ".join(left_out))
    return chosen[0]


def _is_scout(files: Sequence[DicomFile]) -> bool:
    """Whether there are no two slices of one orientation."""
    planes = [plane for file in files for plane in file.planes]
    return num_orientations(planes) == len(planes)


def _describe(files: Sequence[DicomFile]) -> str:
    count = sum(len(file.planes) for file in files)
    name = files[0].description or "no description"
    return f"'{name}' ({files[0].modality or '?'}, {count} slice{'s' if count > 1 else ''})"


def _listing(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _without_copies(files: Sequence[DicomFile]) -> list[DicomFile]:
    """Each slice once, where a file lies in the folder twice."""
    kept: dict[str, DicomFile] = {}
    different: list[DicomFile] = []
    for file in files:
        twin = kept.setdefault(file.instance, file)
        if twin is not file and not _are_equal(twin, file):
            different.append(file)
    return [*kept.values(), *different]


def _are_equal(first: DicomFile, second: DicomFile) -> bool:
    if replace(first, path=second.path) != second:
        return False
    shape = (first.num_channels, len(first.planes), *first.size)
    one, other = np.empty(shape, first.dtype), np.empty(shape, first.dtype)
    read_voxels(first, one)
    read_voxels(second, other)
    return np.array_equal(one, other)


def _refuse_unequal(files: Sequence[DicomFile], place: Path) -> None:
    first = files[0]
    if len(files) > 1 and any(len(file.planes) > 1 for file in files):
        raise DataError(
            f"its series has {len(files)} files, some of which hold several frames",
            place=place,
            remedy="choose one of the files instead of the folder",
        )
    for file in files:
        if file.size != first.size or file.num_channels != first.num_channels:
            raise DataError(
                f"slices of different size, {_size(first)} in {first.path.name} and "
                f"{_size(file)} in {file.path.name}",
                place=place,
                remedy="give each volume a folder of its own",
            )


def _size(file: DicomFile) -> str:
    colours = f" x {file.num_channels} colours" if file.num_channels > 1 else ""
    return f"{file.size[0]} x {file.size[1]}{colours}"
