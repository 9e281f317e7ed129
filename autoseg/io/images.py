"""Images and label maps from and to files of any format.

Conventions of formats end here: what comes out is ``(channels, z, y, x)`` on a ``Geometry``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.core.labels import LabelSpace, smallest_type
from autoseg.errors import DataError
from autoseg.io import atomic
from autoseg.io.formats import reader_of

_LARGEST_GRID_DISTANCE_VOX = 0.1
_SIGNED = (np.int16, np.int32, np.int64)


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
        array, geometry = reader_of(path).read(path)
        first = geometry if first is None else first
        check_same_grid(first, geometry, path, f"the grid of {paths[0].name}")
        parts.append(finite_float32(array, path))
    assert first is not None
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Image(array=np.ascontiguousarray(array), geometry=first)


def read_labels(path: Path, labels: LabelSpace | None = None) -> LabelMap:
    """Read a label map; one stored as floating-point numbers must hold whole ones.

    Args:
        path: the file.
        labels: what is declared, if it is known; formats that name their segments instead of
            numbering them get the values that are declared for these names.

    Returns:
        The file's values in an integer type that holds them.

    Raises:
        DataError: if the file is not readable, incomplete, has several channels that differ, or
            a value is not a whole number.
    """
    array, geometry = reader_of(path).read_labels(path, labels)
    return LabelMap(array=whole_numbers(array, path), geometry=geometry)


def read_geometry(path: Path) -> tuple[Geometry, int]:
    """Read where an image lies, without its voxels.

    Returns:
        The geometry and the number of channels.

    Raises:
        DataError: if the file is not readable.
    """
    return reader_of(path).read_geometry(path)


def write_labels(path: Path, labels: LabelMap) -> None:
    """Write a label map, compressed, whole or not at all, in the smallest type that holds it.

    Args:
        path: the file; its ending decides the format.
        labels: values of any integer type; a single slice of 999 mm becomes a 2D file.

    Raises:
        AutosegError: if the file cannot be written, or its format cannot hold the values.
        DataError: if no format has this ending.
    """
    reader = reader_of(path)
    array = labels.array.astype(smallest_type(labels.array), copy=False)
    with atomic.atomic_path(path) as partial:
        reader.write(partial, array, labels.geometry)


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
        reader_of(path).write(partial, stored, image.geometry)


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


def finite_float32(array: npt.NDArray[Any], path: Path | None = None) -> npt.NDArray[np.float32]:
    """Turn intensities into float32.

    Args:
        array: real numbers, any shape.
        path: where they come from, for the message.

    Raises:
        DataError: if one is infinite or not a number.
    """
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


def whole_numbers(array: npt.NDArray[Any], path: Path) -> npt.NDArray[np.integer]:
    """Turn voxels into integers.

    Args:
        array: numbers, any shape.
        path: where they come from, for the message.

    Raises:
        DataError: if one is no whole number.
    """
    if np.issubdtype(array.dtype, np.integer):
        return array
    rounded = np.rint(array)
    wrong = ~((rounded == array) & (np.abs(array) < 2**63))
    if wrong.any():
        value = array[wrong][0]
        raise DataError(
            f"label values must be whole numbers, found {value:g} in {int(wrong.sum())} voxels",
            place=path,
        )
    largest = np.abs(rounded).max()
    return rounded.astype(next(t for t in _SIGNED if largest < 2.0 ** (np.iinfo(t).bits - 1)))


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
