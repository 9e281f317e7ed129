"""Whether an image is like those a model was trained on: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.geometry import Triple
from autoseg.core.image import Image
from autoseg.errors import DataError

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


def unlike(image: Image, seen: Seen) -> tuple[str, ...]:
    """What sets an image apart from those a model was trained on, so that a result is doubtful.

    Args:
        image: raw intensities, the channels in the order of training.
        seen: by the model.

    Returns:
        A line each; none for an image like the others.

    Raises:
        DataError: if there is nothing to segment in it, or its spacing cannot be right.
    """
    _refuse_empty(image)
    spacing = _unlike_spacing(image.geometry.spacing, seen)
    return tuple(spacing + _unlike_intensities(image, seen))


def _refuse_empty(image: Image) -> None:
    values = image.array.ravel()
    if (values[0] == values).all():
        raise DataError(
            f"every voxel has the value {values[0]:g}: there is nothing to segment",
            remedy="look at the file",
        )


def _unlike_spacing(spacing: Triple, seen: Seen) -> list[str]:
    factors = [
        max(low / one, one / high)
        for one, low, high in zip(spacing, seen.min_spacing, seen.max_spacing, strict=True)
    ]
    far = [axis for axis, factor in enumerate(factors) if factor > SPACING_FACTOR]
    if not far:
        return []
    words = f"spacing {_mm(spacing)} (z, y, x), the training data had {_range_of(seen)}"
    if any(factors[axis] > _IMPOSSIBLE_FACTOR for axis in far if axis != seen.across):
        raise DataError(f"{words}: it cannot be right", remedy="mend the spacing of the file")
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


def _range_of(seen: Seen) -> str:
    if seen.min_spacing == seen.max_spacing:
        return _mm(seen.min_spacing)
    pairs = zip(seen.min_spacing, seen.max_spacing, strict=True)
    return " x ".join(f"{low:g}-{high:g}" if low != high else f"{low:g}" for low, high in pairs) + (
        " mm"
    )
