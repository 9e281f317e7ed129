"""Segmentations of 3D Slicer (``.seg.nrrd``): segments have names, and may overlap in layers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.core.labels import LabelSpace, smallest_type
from autoseg.errors import DataError
from autoseg.io.readers.itk import ItkReader, open_image

_SEGMENT_KEY = re.compile(r"Segment(\d+)_(ID|Name|LabelValue|Layer)")
_LARGEST_TABLE = 1 << 16
_BACKGROUND, _IGNORE = "background", "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment of a file.

    Attributes:
        name: what its author called it.
        value: voxel value in its layer.
        layer: number of the layer; segments of one layer do not overlap.
    """

    name: str
    value: int
    layer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overlaps:
    """Which segments cover each voxel.

    Attributes:
        indices: ``(z, y, x)``, into ``sets``.
        sets: the sets of segments there are.
        counts: voxels of each.
        segments: all segments, also those without a voxel.
    """

    indices: npt.NDArray[np.integer]
    sets: tuple[frozenset[Segment], ...]
    counts: tuple[int, ...]
    segments: tuple[Segment, ...]


class SegmentationReader(ItkReader):
    """NRRD files of 3D Slicer; a file without names of segments is a plain NRRD file."""

    def read_labels(
        self, path: Path, labels: LabelSpace | None
    ) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a segmentation; segments are matched with declared structures by their names.

        Slicer numbers the segments of each file anew, so the values in the file mean nothing.

        Args:
            path: the file.
            labels: what is declared. A voxel gets the value that belongs to exactly the
                structures whose segments cover it. If None, the values stay as they are stored.

        Returns:
            Values ``(z, y, x)`` in an integer type that holds them, and their geometry.

        Raises:
            DataError: if the file is not readable, a segment is not declared, or segments
                overlap that no declared value stands for.
        """
        segments = read_segments(path)
        if not segments:
            return super().read_labels(path, labels)
        layers, geometry = self.read(path)
        if labels is not None:
            overlaps = _overlaps(path, layers, segments)
            values = _declared_values(path, overlaps, labels)
        elif len(layers) == 1:
            return layers[0], geometry
        else:
            _refuse_equal_values(path, segments)
            overlaps = _overlaps(path, layers, segments)
            values = _stored_values(path, overlaps)
        return np.array(values, dtype=smallest_type(values))[overlaps.indices], geometry

    def label_suffix(self, path: Path) -> str | None:
        """Ending of the label map of an image: that of a plain NRRD file."""
        del path
        return ".nrrd"


SEGMENTATION = SegmentationReader((".seg.nrrd",))


def read_segments(path: Path) -> tuple[Segment, ...]:
    """Read the segments a header names.

    Files written before layers could be shared give every segment the value 1 in its own layer.

    Args:
        path: a ``.seg.nrrd`` file.

    Returns:
        The segments in the order of their numbers; none for a plain NRRD file.

    Raises:
        DataError: if the file is not readable, or a value or layer is not a whole number.
    """
    header = open_image(path)
    found: dict[int, dict[str, str]] = {}
    for key in header.GetMetaDataKeys():
        match = _SEGMENT_KEY.fullmatch(key)
        if match is not None:
            found.setdefault(int(match[1]), {})[match[2]] = header.GetMetaData(key).strip()
    try:
        return tuple(_segment(number, found[number]) for number in sorted(found))
    except ValueError as error:
        raise DataError(f"value and layer of a segment are numbers: {error}", place=path) from None


def read_segment_sets(path: Path) -> dict[frozenset[str], int]:
    """Count the voxels that each set of segments covers together.

    Args:
        path: a ``.seg.nrrd`` file with named segments.

    Returns:
        Number of voxels by the names of the segments; an empty set for the background.

    Raises:
        DataError: if the file is not readable.
    """
    layers, _ = SEGMENTATION.read(path)
    overlaps = _overlaps(path, layers, read_segments(path))
    found: dict[frozenset[str], int] = {}
    for segments, count in zip(overlaps.sets, overlaps.counts, strict=True):
        names = frozenset(segment.name for segment in segments)
        found[names] = found.get(names, 0) + count
    return found


def _segment(number: int, entry: Mapping[str, str]) -> Segment:
    is_old = "LabelValue" not in entry
    return Segment(
        name=entry.get("Name") or entry.get("ID") or f"Segment{number}",
        value=int(entry.get("LabelValue", 1)),
        layer=int(entry.get("Layer", number if is_old else 0)),
    )


def _overlaps(path: Path, layers: npt.NDArray[Any], segments: Sequence[Segment]) -> _Overlaps:
    """Find the sets of segments layer by layer; their number stays small, however many layers."""
    indices: npt.NDArray[np.integer] = np.zeros(layers.shape[1:], dtype=np.uint8)
    sets: tuple[frozenset[Segment], ...] = (frozenset(),)
    counts = (indices.size,)
    for layer in sorted({segment.layer for segment in segments}):
        here = [segment for segment in segments if segment.layer == layer]
        if not 0 <= layer < len(layers):
            raise DataError(
                f"segment '{here[0].name}' is in layer {layer}, but there are {len(layers)}",
                place=path,
            )
        values = sorted({segment.value for segment in here})
        covering = [frozenset(), *(frozenset(s for s in here if s.value == v) for v in values)]
        size = len(sets) * len(covering)
        pairs = indices.astype(np.min_scalar_type(size)) * len(covering)
        pairs += _codes(layers[layer], values)
        # Slice by slice, because it counts in 64 bits.
        planes = [np.bincount(plane.ravel(), minlength=size) for plane in pairs]
        histogram = np.sum(planes, axis=0)
        present = np.flatnonzero(histogram)
        table = np.zeros(size, dtype=np.min_scalar_type(len(present)))
        table[present] = np.arange(len(present))
        indices = table[pairs]
        sets = tuple(sets[p // len(covering)] | covering[p % len(covering)] for p in present)
        counts = tuple(int(count) for count in histogram[present])
    return _Overlaps(indices=indices, sets=sets, counts=counts, segments=tuple(segments))


def _codes(array: npt.NDArray[Any], values: Sequence[int]) -> npt.NDArray[np.integer]:
    """1 + the position in ascending values of what a voxel holds; 0 if it holds another."""
    dtype = np.min_scalar_type(len(values))
    highest = values[-1]
    if np.issubdtype(array.dtype, np.integer) and values[0] >= 0 and highest < _LARGEST_TABLE:
        table = np.zeros(_LARGEST_TABLE + 1, dtype=dtype)
        table[list(values)] = np.arange(1, len(values) + 1)
        is_small = np.iinfo(array.dtype).max <= _LARGEST_TABLE and array.min() >= 0
        return table[array if is_small else np.clip(array, 0, _LARGEST_TABLE)]
    keys = np.asarray(values)
    positions = np.minimum(np.searchsorted(keys, array), len(keys) - 1)
    return np.where(keys[positions] == array, positions + 1, 0).astype(dtype)


def _declared_values(path: Path, overlaps: _Overlaps, labels: LabelSpace) -> list[int]:
    """The value of each set of segments: the one contained in exactly these structures."""
    names_of_value: dict[int, set[str]] = {}
    for structure in labels.structures:
        for value in structure.values:
            names_of_value.setdefault(value, set()).add(structure.name)
    value_of = {frozenset(names_of_value[v]): v for v in sorted(names_of_value, reverse=True)}
    value_of[frozenset()] = labels.background
    if labels.ignore is not None:
        value_of[frozenset({_IGNORE})] = labels.ignore
    meanings = _meanings(path, overlaps.segments, labels)
    values: list[int] = []
    for segments, count in zip(overlaps.sets, overlaps.counts, strict=True):
        names = frozenset[str]().union(*(meanings[segment] for segment in segments))
        if names not in value_of:
            raise _undeclared_overlap(path, segments, count)
        values.append(value_of[names])
    return values


def _meanings(
    path: Path, segments: Sequence[Segment], labels: LabelSpace
) -> dict[Segment, frozenset[str]]:
    """Which structure each segment is; a segment of background is none."""
    known: dict[str, frozenset[str]] = {_BACKGROUND: frozenset()}
    if labels.ignore is not None:
        known[_IGNORE] = frozenset({_IGNORE})
    known |= {name.strip().casefold(): frozenset({name}) for name in labels.names}
    unknown = [s.name for s in segments if s.name.casefold() not in known]
    if unknown:
        raise DataError(
            f"segments {', '.join(unknown)} are not declared (declared: {', '.join(labels.names)})",
            place=path,
            remedy="rename them, or declare them",
        )
    return {segment: known[segment.name.casefold()] for segment in segments}


def _undeclared_overlap(path: Path, segments: frozenset[Segment], count: int) -> DataError:
    if len(segments) == 1:
        name = next(iter(segments)).name
        return DataError(
            f"{count} voxels are in segment '{name}' alone, which no declared label value means",
            place=path,
            remedy="let the segments of structures that contain each other overlap",
        )
    return DataError(
        f"segments {_both(segments)} overlap in {count} voxels, and no declared label value "
        "means both",
        place=path,
        remedy="declare overlapping structures as regions",
    )


def _refuse_equal_values(path: Path, segments: Sequence[Segment]) -> None:
    for value in {segment.value for segment in segments}:
        same = [segment for segment in segments if segment.value == value]
        if len({segment.layer for segment in same}) > 1:
            raise DataError(
                f"segments {_both(same)} both have the value {value}, in different layers",
                place=path,
                remedy="export it as a label map",
            )


def _stored_values(path: Path, overlaps: _Overlaps) -> list[int]:
    values: list[int] = []
    for segments, count in zip(overlaps.sets, overlaps.counts, strict=True):
        stored = {segment.value for segment in segments}
        if len(stored) > 1:
            raise DataError(
                f"segments {_both(segments)} overlap in {count} voxels",
                place=path,
                remedy="export it as a label map",
            )
        values.append(stored.pop() if stored else 0)
    return values


def _both(segments: Iterable[Segment]) -> str:
    return " and ".join(sorted(f"'{segment.name}'" for segment in segments))
