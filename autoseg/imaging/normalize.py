"""Intensities brought to a common scale, channel by channel."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Protocol

import numpy as np
import numpy.typing as npt

from autoseg.core.fingerprint import IntensityStats
from autoseg.errors import DataError
from autoseg.registry import Registry

Channel = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_EPS = 1e-8
_SCHEME_OF_CHANNEL = {
    "ct": "ct",
    "nonorm": "none",
    "zscore": "zscore",
    "rescale_to_0_1": "rescale_to_0_1",
    "rgb_to_0_1": "rgb_to_0_1",
}


class Transform(Protocol):
    """Brings parts of one channel to the scale that was found for all of it."""

    def __call__(self, part: Channel, mask: Mask | None, /) -> Channel:
        """Normalize a part.

        Args:
            part: float32 ``(z, y, x)``, any part of the channel; not changed.
            mask: bool, the same part of the region that counts; None if all does.

        Returns:
            A new float32 array of the same shape.
        """
        ...


class Normalizer(Protocol):
    """Finds the scale of one channel of one image.

    What depends on the whole channel is found first; the voxels are then changed part by part,
    so that a normalized copy of a large image never exists as a whole.
    """

    def __call__(
        self, channel: Channel, mask: Mask | None, stats: IntensityStats | None, /
    ) -> Transform:
        """Look at a channel.

        Args:
            channel: float32 ``(z, y, x)``, in any memory layout; not changed.
            mask: bool ``(z, y, x)``, the region that counts; None if all does.
            stats: foreground intensities of the data set; None if the scheme needs none.

        Returns:
            What normalizes the channel.
        """
        ...


def scheme_of(channel_name: str) -> str:
    """The normalization of a channel, by its name.

    Case and surrounding blanks do not matter (in the reference, ``"CT "`` silently becomes
    z-score). Everything but CT and the names of schemes is z-scored.

    Args:
        channel_name: as the data set declares it.

    Returns:
        A name in ``NORMALIZERS``.
    """
    return _SCHEME_OF_CHANNEL.get(channel_name.strip().casefold(), "zscore")


def uses_mask(scheme: str) -> bool:
    """Whether a scheme can be restricted to the non-zero region."""
    return scheme == "zscore"


def zscore(channel: Channel, mask: Mask | None, _stats: IntensityStats | None) -> Transform:
    """Subtract the image's mean and divide by its standard deviation.

    With a mask, both are the region's, and voxels outside are left as they are.
    """
    mean, std = _moments(channel, mask)
    centre, scale = np.float32(mean), np.float32(max(std, _EPS))

    def transform(part: Channel, inside: Mask | None) -> Channel:
        scaled = part - centre
        scaled /= scale
        return scaled if inside is None else np.where(inside, scaled, part)

    return transform


def _moments(channel: Channel, mask: Mask | None) -> tuple[float, float]:
    """Mean and standard deviation, of the mask if there is one; 0 and 0 of nothing."""
    count = channel.size if mask is None else int(np.count_nonzero(mask))
    if count == 0:
        return 0.0, 0.0
    mean = sum(float(p.sum(dtype=np.float64)) for p in _parts(channel, mask)) / count
    centre = np.float32(mean)
    squares = (np.square(part - centre).sum(dtype=np.float64) for part in _parts(channel, mask))
    return mean, sqrt(sum(map(float, squares)) / count)


def _parts(channel: Channel, mask: Mask | None) -> Iterator[Channel]:
    """The values that count, in the order of the memory: a view may run across it."""
    axes = np.argsort([-abs(stride) for stride in channel.strides], kind="stable")
    planes = channel.transpose(axes)
    if mask is None:
        yield from planes
    else:
        for plane, inside in zip(planes, mask.transpose(axes), strict=True):
            yield plane[inside]


def ct(channel: Channel, _mask: Mask | None, stats: IntensityStats | None) -> Transform:
    """Clip to the data set's foreground percentiles, then standardize with its foreground.

    Raises:
        ValueError: without statistics.
    """
    del channel
    if stats is None:
        raise ValueError("'ct' needs the intensity statistics of the data set")
    low, high = np.float32(stats.percentile_00_5), np.float32(stats.percentile_99_5)
    centre, scale = np.float32(stats.mean), np.float32(max(stats.std, _EPS))

    def transform(part: Channel, _inside: Mask | None) -> Channel:
        result = np.clip(part, low, high)
        result -= centre
        result /= scale
        return result

    return transform


def rescale_to_0_1(
    channel: Channel, _mask: Mask | None, _stats: IntensityStats | None
) -> Transform:
    """Map the image's range to 0..1."""
    low = channel.min()
    scale = np.float32(max(float(channel.max() - low), _EPS))

    def transform(part: Channel, _inside: Mask | None) -> Channel:
        result = part - low
        result /= scale
        return result

    return transform


def rgb_to_0_1(channel: Channel, _mask: Mask | None, _stats: IntensityStats | None) -> Transform:
    """Map 0..255 to 0..1.

    Raises:
        DataError: if a value is outside 0..255.
    """
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > 255:
        raise DataError(
            f"intensities reach from {low:g} to {high:g}, but 'rgb_to_0_1' is for 0 to 255",
            remedy="rename the channel",
        )
    return lambda part, _inside: part / np.float32(255)


def unchanged(channel: Channel, _mask: Mask | None, _stats: IntensityStats | None) -> Transform:
    """Leave the image as it is."""
    del channel
    return lambda part, _inside: part.copy()


NORMALIZERS: Registry[Normalizer] = Registry("normalization")
NORMALIZERS.add("ct", ct)
NORMALIZERS.add("zscore", zscore)
NORMALIZERS.add("none", unchanged)
NORMALIZERS.add("rescale_to_0_1", rescale_to_0_1)
NORMALIZERS.add("rgb_to_0_1", rgb_to_0_1)
