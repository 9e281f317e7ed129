"""Intensities brought to a common scale, channel by channel."""

from __future__ import annotations

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


class Normalizer(Protocol):
    """Brings one channel of one image to a common scale."""

    def __call__(
        self, channel: Channel, mask: Mask | None, stats: IntensityStats | None, /
    ) -> Channel:
        """Normalize a channel.

        Args:
            channel: float32 ``(z, y, x)``, not changed.
            mask: bool ``(z, y, x)``, the region that counts; None if all does.
            stats: foreground intensities of the data set; None if the scheme needs none.

        Returns:
            A new float32 array of the same shape.
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


def zscore(channel: Channel, mask: Mask | None, _stats: IntensityStats | None) -> Channel:
    """Subtract the image's mean and divide by its standard deviation.

    With a mask, both are the region's, and voxels outside are left as they are.
    """
    if mask is None:
        return _standardized(channel)
    result = channel.copy()
    if mask.any():
        result[mask] = _standardized(channel[mask])
    return result


def _standardized(values: Channel) -> Channel:
    centred = values - np.float32(values.mean(dtype=np.float64))
    std = float(np.sqrt(np.mean(np.square(centred), dtype=np.float64)))
    centred /= np.float32(max(std, _EPS))
    return centred


def ct(channel: Channel, _mask: Mask | None, stats: IntensityStats | None) -> Channel:
    """Clip to the data set's foreground percentiles, then standardize with its foreground.

    Raises:
        ValueError: without statistics.
    """
    if stats is None:
        raise ValueError("'ct' needs the intensity statistics of the data set")
    result = np.clip(channel, np.float32(stats.percentile_00_5), np.float32(stats.percentile_99_5))
    result -= np.float32(stats.mean)
    result /= np.float32(max(stats.std, _EPS))
    return result


def rescale_to_0_1(channel: Channel, _mask: Mask | None, _stats: IntensityStats | None) -> Channel:
    """Map the image's range to 0..1."""
    result = channel - channel.min()
    result /= np.float32(max(float(result.max()), _EPS))
    return result


def rgb_to_0_1(channel: Channel, _mask: Mask | None, _stats: IntensityStats | None) -> Channel:
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
    return channel / np.float32(255)


def unchanged(channel: Channel, _mask: Mask | None, _stats: IntensityStats | None) -> Channel:
    """Copy the image."""
    return channel.copy()


NORMALIZERS: Registry[Normalizer] = Registry("normalization")
NORMALIZERS.add("ct", ct)
NORMALIZERS.add("zscore", zscore)
NORMALIZERS.add("none", unchanged)
NORMALIZERS.add("rescale_to_0_1", rescale_to_0_1)
NORMALIZERS.add("rgb_to_0_1", rgb_to_0_1)
