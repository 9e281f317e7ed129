"""What files hold: label maps, images, names of labels; run in worker processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.errors import AutosegError, DataError
from autoseg.init.channels import ChannelRange, ImageLook
from autoseg.init.label_names import best_names, parse_names
from autoseg.init.labels import LabelLook
from autoseg.init.words import is_segmentation
from autoseg.io import dataset_json
from autoseg.io.dataset_json import DESCRIPTION
from autoseg.io.images import read_image, read_labels
from autoseg.io.layouts.found import Problems
from autoseg.io.readers.dicom import read_patient
from autoseg.io.readers.dicom_files import SUFFIXES, dicom_files
from autoseg.io.readers.dicom_header import read_header
from autoseg.io.readers.segmentation import read_segment_sets, read_segments

MOST_VALUES_OF_A_LABEL_MAP = 150
LEAST_SHARE_OF_EQUAL_NEIGHBOURS = 0.8
_NAME_SUFFIXES = (".ctbl", ".label", ".lut")
_NAME_STEMS = ("label", "class", "structure", "organ", "segment", "roi")
_LARGEST_TEXT_BYTES = 1 << 20


def look_at_labels(path: Path) -> LabelLook:
    """Count what a label map holds.

    Raises:
        DataError: if it cannot be read, or holds fractions all over.
    """
    if is_segmentation(path.name):
        segments = read_segments(path)
        if segments:
            stored = {segment.name: segment.value for segment in segments}
            sets = read_segment_sets(path)
            alone = {next(iter(s)): count for s, count in sets.items() if len(s) == 1}
            voxels = {0: sets.get(frozenset(), 0)} | {
                stored[name]: count for name, count in alone.items()
            }
            return LabelLook(voxels=voxels, border={}, segments=sets, stored=stored)
    array, is_rounded = _read_numbers(path)
    faces = [np.take(array, side, axis) for axis in range(3) for side in (0, -1)]
    border: Counter[int] = Counter()
    for face in faces:
        border.update(_count(face))
    return LabelLook(voxels=_count(array), border=border, is_rounded=is_rounded)


def look_at_image(path: Path) -> ImageLook:
    """Measure the ranges of an image's channels.

    Raises:
        DataError: if it cannot be read.
    """
    image = read_image([path])
    ranges = [
        ChannelRange(
            min=float(channel.min()),
            max=float(channel.max()),
            is_whole=bool(np.array_equal(channel, np.rint(channel))),
        )
        for channel in image.array
    ]
    return ImageLook(
        is_flat=image.geometry.shape[0] == 1, channels=tuple(ranges), modality=_modality(path)
    )


def looks_like_labels(path: Path) -> bool:
    """Whether a file can be a label map by its voxels: few whole numbers in patches.

    A file that cannot be read is none.
    """
    try:
        array = read_labels(path).array
    except AutosegError:
        return False
    if len(np.unique(array)) > MOST_VALUES_OF_A_LABEL_MAP or array.shape[-1] < 2:
        return False
    equal = np.count_nonzero(array[..., 1:] == array[..., :-1])
    return bool(equal >= LEAST_SHARE_OF_EQUAL_NEIGHBOURS * array[..., 1:].size)


def patient_of_file(path: Path) -> str | None:
    """The PatientID of a DICOM image; None if it has none, or is of another format."""
    if not _is_dicom(path):
        return None
    try:
        return read_patient(path)
    except DataError:
        return None


def find_label_names(
    root: Path, folders: Iterator[Path], values: set[int]
) -> tuple[Path | None, Mapping[int, str]]:
    """Find names of label values in the files that lie beside images.

    Args:
        root: the data set.
        folders: where to look.
        values: those that occur.

    Returns:
        The file that names most of the values, and its names; None and nothing if there is none.
    """
    candidates = {
        str(file): names
        for folder in folders
        for file in _files_with_names(root / folder)
        if (names := _names_in(file))
    }
    best = best_names(candidates, values)
    return (None, {}) if best is None else (Path(best), candidates[best])


def _read_numbers(path: Path) -> tuple[npt.NDArray[Any], bool]:
    """Label values, and whether they were rounded: resampling leaves fractions at borders."""
    try:
        return read_labels(path).array, False
    except DataError:
        image = read_image([path]).array
        rounded = np.rint(image[0]).astype(np.int64)
        if len(image) > 1 or len(np.unique(rounded)) > MOST_VALUES_OF_A_LABEL_MAP:
            raise
        return rounded, True


def _count(array: npt.NDArray[Any]) -> dict[int, int]:
    values, counts = np.unique(array, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True)}


def _is_dicom(path: Path) -> bool:
    return path.is_dir() or path.name.lower().endswith(SUFFIXES)


def _modality(path: Path) -> str | None:
    if not _is_dicom(path):
        return None
    file = next(iter(dicom_files(path)), path) if path.is_dir() else path
    try:
        return read_header(file).modality or None
    except DataError:
        return None


def _files_with_names(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and (_is_name_table(file) or file.name == DESCRIPTION)
    ]


def _is_name_table(file: Path) -> bool:
    if file.name.startswith((".", "_")) or file.stat().st_size > _LARGEST_TEXT_BYTES:
        return False
    name = file.name.casefold()
    is_named_so = any(stem in name for stem in _NAME_STEMS)
    return name.endswith(_NAME_SUFFIXES) or (is_named_so and name.endswith((".txt", ".csv")))


def _names_in(file: Path) -> dict[int, str]:
    if file.name != DESCRIPTION:
        return parse_names(file.read_text(encoding="utf-8-sig", errors="replace"))
    try:
        space = dataset_json.labels(dataset_json.read(file), Problems(file))
    except DataError:
        return {}
    if space is None:
        return {}
    ignore = {} if space.ignore is None else {space.ignore: "ignore"}
    return {s.values[0]: s.name for s in space.structures if len(s.values) == 1} | ignore
