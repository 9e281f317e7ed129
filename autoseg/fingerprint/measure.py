"""What is measured about a case, and how cases are put together: pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.fingerprint import (
    CaseFingerprint,
    ChannelRange,
    FileStamp,
    Fingerprint,
    StructureMeasure,
)
from autoseg.core.image import Image
from autoseg.core.labels import LabelSpace, count_voxels
from autoseg.fingerprint.sketch import IntensitySketch, combine, sketch
from autoseg.imaging.boxes import bounding_box, crop, nonzero_mask
from autoseg.imaging.components import count_components


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured case.

    Attributes:
        case: what goes into the fingerprint as it is.
        sketches: foreground intensities per channel; empty if the case has no foreground.
    """

    case: CaseFingerprint
    sketches: tuple[IntensitySketch, ...]


def measure_case(
    name: str,
    image: Image,
    labels: npt.NDArray[np.signedinteger] | None,
    label_space: LabelSpace,
    files: Sequence[FileStamp],
) -> Measurement:
    """Measure one case.

    Args:
        name: the case's name.
        image: all channels.
        labels: indices, ``(z, y, x)``; None if the label map cannot be used.
        label_space: what the indices mean.
        files: stamps of the case's files.

    Returns:
        Shape and counts, and a sketch of the intensities.

    References:
        The reference's fingerprint, except that the ignore label is no foreground and that
        intensities are counted, not drawn at random.
    """
    box = bounding_box(nonzero_mask(image.array))
    num_structures = 0 if labels is None else label_space.num_classes - 1
    inside = np.zeros(box.shape, np.int8) if labels is None else crop(labels, box)
    foreground = inside > 0
    if label_space.ignore_index is not None:
        foreground &= inside != label_space.ignore_index
    counts = count_voxels(inside, len(label_space.values))
    z, y, x = box.shape
    case = CaseFingerprint(
        name=name,
        shape=(z, y, x),
        spacing=image.geometry.spacing,
        relative_size=prod(box.shape) / prod(image.geometry.shape),
        label_voxels=counts[1 : num_structures + 1],
        original_shape=image.geometry.shape,
        orientation=image.geometry.orientation,
        channels=tuple(_range_of(channel) for channel in image.array),
        structures=() if labels is None else _structures(image, labels, num_structures),
        num_components=() if labels is None else count_components(labels, num_structures),
        files=tuple(files),
        content=_content_of(image),
    )
    if not foreground.any():
        return Measurement(case=case, sketches=())
    sketches = tuple(sketch(crop(channel, box)[foreground]) for channel in image.array)
    return Measurement(case=case, sketches=sketches)


def label_key(labels: LabelSpace) -> str:
    """Hash of all that a measured label map depends on beside its file.

    Names are part of it because segmentations of 3D Slicer are matched by them.
    """
    structures = sorted((s.name.casefold(), sorted(s.values)) for s in labels.structures)
    meaning = repr((labels.background, labels.ignore, structures))
    return hashlib.blake2b(meaning.encode(), digest_size=8).hexdigest()


def _content_of(image: Image) -> str:
    content = hashlib.blake2b(repr(image.array.shape).encode(), digest_size=8)
    for channel in image.array:
        content.update(np.ascontiguousarray(channel).data)
    return content.hexdigest()


def _range_of(channel: npt.NDArray[np.float32]) -> ChannelRange:
    return ChannelRange(
        min=float(channel.min()),
        max=float(channel.max()),
        is_whole=bool(np.array_equal(np.rint(channel), channel)),
    )


def _structures(
    image: Image, labels: npt.NDArray[np.signedinteger], count: int
) -> tuple[StructureMeasure | None, ...]:
    """Where each index 1..count lies and what it looks like, all in one pass."""
    is_one = (labels > 0) & (labels <= count)
    indices = labels[is_one]
    sizes = np.bincount(indices, minlength=count + 1)

    def means(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.bincount(indices, weights=values, minlength=count + 1) / np.maximum(sizes, 1)

    centroids = np.stack([means(axis) for axis in np.nonzero(is_one)], axis=1)
    world = image.geometry.voxel_to_world(centroids)
    inside = [channel[is_one].astype(np.float64) for channel in image.array]
    averages = [means(values) for values in inside]
    spreads = [
        np.sqrt(means(np.square(values - average[indices])))
        for values, average in zip(inside, averages, strict=True)
    ]
    return tuple(
        StructureMeasure(
            centroid=tuple(world[i].tolist()),
            means=tuple(float(average[i]) for average in averages),
            stds=tuple(float(spread[i]) for spread in spreads),
        )
        if sizes[i]
        else None
        for i in range(1, count + 1)
    )


def summarise(
    measurements: Sequence[Measurement], num_channels: int, label_space: LabelSpace
) -> Fingerprint:
    """Put all cases together.

    Args:
        measurements: at least one.
        num_channels: channels of every case.
        label_space: what the indices mean.

    Returns:
        The fingerprint, cases sorted by name; without intensities if no case has foreground.
    """
    cases = sorted((m.case for m in measurements), key=lambda case: case.name)
    with_foreground = [m.sketches for m in measurements if m.sketches]
    return Fingerprint(
        label_values=label_space.values,
        label_key=label_key(label_space),
        cases=tuple(cases),
        intensities=tuple(
            combine([sketches[channel] for sketches in with_foreground])
            for channel in range(num_channels if with_foreground else 0)
        ),
    )
