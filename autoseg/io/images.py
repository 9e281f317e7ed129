"""Images and label maps from and to files of any format.

Conventions of formats end here: what comes out is ``(channels, z, y, x)`` on a ``Geometry``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.errors import DataError
from autoseg.io import atomic
from autoseg.registry import Registry

SINGLE_SLICE_SPACING_MM = 999.0
_LARGEST_GRID_DISTANCE_VOX = 0.1


class Reader(Protocol):
    """Reads and writes the files of some formats."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the files, lower case, with the dot."""
        ...

    def read_geometry(self, path: Path) -> tuple[Geometry, int]:
        """Read the header: geometry and number of channels.

        Raises:
            DataError: if it is not readable.
        """
        ...

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a file.

        Returns:
            The voxels ``(channels, z, y, x)`` in the type of the file, and their geometry.

        Raises:
            DataError: if it is not readable, or incomplete.
        """
        ...

    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
        """Write a label map or a channel of an image.

        Args:
            path: the file.
            array: numbers, ``(z, y, x)``.
            geometry: its geometry.

        Raises:
            AutosegError: if the format cannot hold the values, or the file cannot be written.
        """
        ...


READERS: Registry[Reader] = Registry("reader")
READERS.add("volumes", "autoseg.io.readers.itk:VOLUMES")
READERS.add("pictures", "autoseg.io.readers.itk:PICTURES")
READERS.add("bitmaps", "autoseg.io.readers.itk:BITMAPS")


def read_image(paths: Sequence[Path]) -> Image:
    """Read an image, its channels from one file each or all from a single file.

    A 2D image becomes one slice of 999 mm; the fourth axis of a 4D file holds the channels.

    Args:
        paths: the files, in the order of the channels.

    Returns:
        float32 intensities on the grid of the first file.

    Raises:
        DataError: if a file is not readable, incomplete or holds infinite values or NaN, or if
            the files lie on different grids.
        ValueError: if there is no path.
    """
    if not paths:
        raise ValueError("an image needs at least one file")
    parts: list[npt.NDArray[np.float32]] = []
    first: Geometry | None = None
    for path in paths:
        array, geometry = _reader_of(path).read(path)
        first = geometry if first is None else first
        check_same_grid(first, geometry, path, f"the grid of {paths[0].name}")
        parts.append(_finite_float32(array, path))
    assert first is not None
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Image(array=np.ascontiguousarray(array), geometry=first)


def read_labels(path: Path) -> LabelMap:
    """Read a label map; one stored as floating-point numbers must hold whole ones.

    Returns:
        The file's values in an integer type that holds them.

    Raises:
        DataError: if the file is not readable, incomplete, has several channels that differ, or
            a value is not a whole number.
    """
    array, geometry = _reader_of(path).read(path)
    # Bitmaps are read as three equal colours even where they are grey.
    if any(not np.array_equal(channel, array[0]) for channel in array[1:]):
        raise DataError(f"a label map has one channel, this has {len(array)}", place=path)
    return LabelMap(array=_whole_numbers(array[0], path), geometry=geometry)


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """Read where an image lies, without its voxels.

    Returns:
        The geometry and the number of channels.

    Raises:
        DataError: if the file is not readable.
    """
    return _reader_of(path).read_geometry(path)


def write_labels(path: Path, labels: LabelMap) -> None:
    """Write a label map, compressed, whole or not at all, in the smallest type that holds it.

    Args:
        path: the file; its ending decides the format.
        labels: values of any integer type; a single slice of 999 mm becomes a 2D file.

    Raises:
        AutosegError: if the file cannot be written, or its format cannot hold the values.
        DataError: if no format has this ending.
    """
    reader = _reader_of(path)
    lowest, highest = int(labels.array.min()), int(labels.array.max())
    dtype = np.result_type(np.min_scalar_type(lowest), np.min_scalar_type(highest))
    with atomic.atomic_path(path) as partial:
        reader.write(partial, labels.array.astype(dtype), labels.geometry)


def write_image(path: Path, image: Image) -> None:
    """Write an image of one channel, compressed, whole or not at all.

    Args:
        path: the file; its ending decides the format.
        image: whole numbers that fit are written as int16, all others as float32.

    Raises:
        AutosegError: if the file cannot be written, or its format cannot hold the values.
        DataError: if no format has this ending.
        ValueError: if the image has several channels.
    """
    if image.num_channels != 1:
        raise ValueError(f"one channel per file, got {image.num_channels}")
    array = image.array[0]
    is_whole = np.array_equal(np.rint(array), array) and np.abs(array).max() < 2**15
    with atomic.atomic_path(path) as partial:
        stored = array.astype(np.int16) if is_whole else array
        _reader_of(path).write(partial, stored, image.geometry)


def check_same_grid(first: Geometry, second: Geometry, place: Path, other: str) -> None:
    """Refuse two files of one case that do not lie on the same grid.

    Rounding in headers (corners up to a tenth of a voxel apart) is let pass.

    Args:
        first: geometry of the one.
        second: geometry of the other.
        place: file of the second, for the message.
        other: what the first is, for the message, such as ``"the image's grid"``.

    Raises:
        DataError: if shape, spacing, origin or direction differ.
    """
    if first.shape != second.shape:
        raise DataError(f"shape {second.shape} differs from {other}, {first.shape}", place=place)
    distance = first.distance_vox(second)
    if distance > _LARGEST_GRID_DISTANCE_VOX:
        raise DataError(
            f"lies up to {distance:.2g} voxels away from {other} "
            f"(spacing {_rounded(second.spacing)} and {_rounded(first.spacing)}, "
            f"origin {_rounded(second.origin)} and {_rounded(first.origin)})",
            place=place,
            remedy="resample one onto the other, or correct the header that is wrong",
        )


def suffixes() -> tuple[str, ...]:
    """All endings of image files, lower case."""
    return tuple(suffix for name in READERS for suffix in READERS.get(name).suffixes)


def is_image(path: Path) -> bool:
    """Whether a name has the ending of an image file and is not hidden (``.`` or ``_``)."""
    return not path.name.startswith((".", "_")) and suffix_of(path) is not None


def suffix_of(path: Path) -> str | None:
    """The ending of an image file's name as it is written there, or None."""
    name = path.name.lower()
    matches = [suffix for suffix in suffixes() if name.endswith(suffix) and name != suffix]
    return path.name[-max(map(len, matches)) :] if matches else None


def stem(path: Path) -> str:
    """The name of an image file without its ending: ``a.b.nii.gz`` is ``a.b``."""
    suffix = suffix_of(path)
    return path.stem if suffix is None else path.name[: -len(suffix)]


def _reader_of(path: Path) -> Reader:
    suffix = suffix_of(path)
    for name in READERS:
        reader = READERS.get(name)
        if suffix is not None and suffix.lower() in reader.suffixes:
            return reader
    raise DataError(
        "not an image format autoseg knows",
        place=path,
        remedy=f"use one of {', '.join(suffixes())}",
    )


def _finite_float32(array: npt.NDArray[Any], path: Path) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused below
        converted = array.astype(np.float32, copy=False)
    # A sum is finite only if every term is; it costs no array of its own.
    with np.errstate(invalid="ignore", over="ignore"):
        total = converted.sum(dtype=np.float64)
    if not np.isfinite(total):
        count = int(np.count_nonzero(~np.isfinite(converted)))
        raise DataError(
            f"{count} voxels are infinite or not a number",
            place=path,
            remedy="replace them, for instance by the lowest value of the image",
        )
    return converted


def _whole_numbers(array: npt.NDArray[Any], path: Path) -> npt.NDArray[np.integer]:
    if np.issubdtype(array.dtype, np.integer):
        return array
    rounded = np.rint(array)
    wrong = ~((rounded == array) & (np.abs(array) < 2**31))
    if wrong.any():
        value = array[wrong][0]
        raise DataError(
            f"label values must be whole numbers, found {value:g} in {int(wrong.sum())} voxels",
            place=path,
        )
    is_small = np.abs(rounded).max() < 2**15
    return rounded.astype(np.int16 if is_small else np.int32)


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
