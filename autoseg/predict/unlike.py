"""Whether an image is like those a model was trained on: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.geometry import Geometry, Triple
from autoseg.core.image import Image
from autoseg.errors import DataError
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM

SPACING_FACTOR = 1.5
"""A spacing is far from the training data's if it is beyond their range by this factor."""

_IMPOSSIBLE_FACTOR = 100.0
_LEAST_INSIDE = 1e-3
_LEAST_SPREAD = 0.05
_MOST_VALUES = 1 << 20
_AXES = "zyx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a model has seen in training.

    Attributes:
        min_spacing: mm, ``(z, y, x)``.
        max_spacing: mm.
        channels: names.
        intensities: of the structures, per channel; None where the scale of a channel does not
            matter, because every image is normalized by itself.
        across: raw axis across which slices are seen one by one, where they are; their distance
            is then of less account.
    """

    min_spacing: Triple
    max_spacing: Triple
    channels: tuple[str, ...]
    intensities: tuple[IntensityStats | None, ...]
    across: int | None = None

    @property
    def has_pictures(self) -> bool:
        """Whether there were 2D images."""
        return self.max_spacing[0] == SINGLE_SLICE_SPACING_MM

    @property
    def has_volumes(self) -> bool:
        """Whether there were others."""
        return self.min_spacing[0] != SINGLE_SLICE_SPACING_MM


def unlike(image: Image, seen: Seen) -> tuple[str, ...]:
    """What sets an image apart from those a model was trained on, so that a result is doubtful.

    Args:
        image: raw intensities, the channels in the order of training.
        seen: by the model.

    Returns:
        A line each; none for an image like the others.

    Raises:
        DataError: if there is nothing to segment in it, its spacing cannot be right, or it is a 2D
            picture and the model needs volumes.
    """
    _refuse_empty(image)
    return tuple(_unlike_grid(image.geometry, seen) + _unlike_intensities(image, seen))


def _refuse_empty(image: Image) -> None:
    values = image.array.ravel()
    if (values[0] == values).all():
        raise DataError(
            f"every voxel has the value {values[0]:g}: there is nothing to segment",
            remedy="look at the image",
        )


def _unlike_grid(geometry: Geometry, seen: Seen) -> list[str]:
    is_picture = geometry.shape[0] == 1 and geometry.spacing[0] == SINGLE_SLICE_SPACING_MM
    if seen.has_pictures if is_picture else seen.has_volumes:
        return _unlike_spacing(geometry.spacing, seen, range(3))
    if is_picture and seen.across != 0:
        raise DataError(
            "is a 2D picture, the model needs volumes",
            remedy="choose a model of configuration 2d, or one of pictures",
        )
    kind, others = "a volume", "2D pictures"
    if is_picture:
        kind, others = "a 2D picture", "volumes"
    # A picture has no distance of slices; what stands for it is of no use to anybody.
    in_slices = _unlike_spacing(geometry.spacing, seen, (1, 2))
    return [f"is {kind}, the training data were {others}", *in_slices]


def _unlike_spacing(spacing: Triple, seen: Seen, axes: Sequence[int]) -> list[str]:
    lows, highs = seen.min_spacing, seen.max_spacing
    factors = {a: max(lows[a] / spacing[a], spacing[a] / highs[a]) for a in axes}
    far = [axis for axis, factor in factors.items() if factor > SPACING_FACTOR]
    if not far:
        return []
    words = (
        f"spacing {_mm([spacing[a] for a in axes])} ({', '.join(_AXES[a] for a in axes)}), "
        f"the training data had {_range_of(seen, axes)}"
    )
    if any(factors[axis] > _IMPOSSIBLE_FACTOR for axis in far if axis != seen.across):
        raise DataError(f"{words}: it cannot be right", remedy="mend the spacing of the image")
    letters = ", ".join(_AXES[axis] for axis in far)
    return [f"{words}: the model knows nothing like it along {letters}"]


def _unlike_intensities(image: Image, seen: Seen) -> list[str]:
    found: list[str] = []
    for name, channel, stats in zip(seen.channels, image.array, seen.intensities, strict=True):
        if stats is None:
            continue
        step = max(1, channel.size // _MOST_VALUES)
        values = channel.ravel()[::step]
        values = values[values != 0]
        low, high = stats.percentile_00_5, stats.percentile_99_5
        least, most = map(float, np.percentile(values, (0.5, 99.5))) if values.size else (0.0, 0.0)
        inside = float(((values >= low) & (values <= high)).mean()) if values.size else 0.0
        if inside < _LEAST_INSIDE or most - least < _LEAST_SPREAD * (high - low):
            found.append(
                f"{name}: intensities mostly {least:g} to {most:g}, the structures of the "
                f"training data had {low:g} to {high:g}: is the unit another?"
            )
    return found


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{one:g}" for one in spacing) + " mm"


def _range_of(seen: Seen, axes: Sequence[int]) -> str:
    pairs = [(seen.min_spacing[axis], seen.max_spacing[axis]) for axis in axes]
    return " x ".join(f"{low:g}-{high:g}" if low != high else f"{low:g}" for low, high in pairs) + (
        " mm"
    )
