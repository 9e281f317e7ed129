"""Random changes of intensities for the strong augmentation: most differ from place to place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from autoseg.train.augmentation.intensity import Floats, Transform, chosen_channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset(Transform):
    """A constant added to a channel.

    Attributes:
        deviation: standard deviation of the constant; its mean is 0.
        channel_share: share of the channels of a changed sample that are.
    """

    deviation: float
    channel_share: float = 0.5

    def change(self, image: Floats, rng: np.random.Generator) -> None:
        """Shift channels."""
        for channel in chosen_channels(image, self.channel_share, rng):
            np.add(channel, np.float32(rng.normal(0.0, self.deviation)), out=channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankRectangles(Transform):
    """Up to four boxes that hold nothing but their mean.

    Attributes:
        channel_share: share of the channels of a changed sample that are.
    """

    channel_share: float = 0.5

    def change(self, image: Floats, rng: np.random.Generator) -> None:
        """Blank boxes whose sides are a tenth to a third of the patch's."""
        for channel in chosen_channels(image, self.channel_share, rng):
            for _ in range(rng.integers(1, 5)):
                box: list[slice] = []
                for length in channel.shape:
                    side = int(rng.integers(max(1, length // 10), max(1, length // 3) + 1))
                    start = int(rng.integers(0, length - side + 1))
                    box.append(slice(start, start + side))
                channel[tuple(box)] = channel[tuple(box)].mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrightnessGradient(Transform):
    """A wide hill or hollow added to the intensities, as an uneven coil makes it.

    Attributes:
        strength_range: of its height, which is positive or negative.
        channel_share: share of the channels of a changed sample that are.
    """

    strength_range: tuple[float, float]
    channel_share: float = 0.5

    def change(self, image: Floats, rng: np.random.Generator) -> None:
        """Tilt channels."""
        for channel in chosen_channels(image, self.channel_share, rng):
            hill = draw_hill(channel.shape, rng)
            hill *= np.float32(rng.uniform(*self.strength_range) * rng.choice((-1, 1)))
            np.add(channel, hill, out=channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGamma(Transform):
    """A power of the intensities that fades out with the distance from a point.

    Attributes:
        low_range: of exponents below 1, which half of the channels get.
        high_range: of exponents above 1.
        channel_share: share of the channels of a changed sample that are.
    """

    low_range: tuple[float, float]
    high_range: tuple[float, float]
    channel_share: float = 0.5

    def change(self, image: Floats, rng: np.random.Generator) -> None:
        """Bend the intensities of channels here and there."""
        for channel in chosen_channels(image, self.channel_share, rng):
            limits = self.low_range if rng.random() < 0.5 else self.high_range
            change_local_gamma(channel, rng.uniform(*limits), draw_hill(channel.shape, rng))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharpen(Transform):
    """Differences from the neighbours added to the intensities.

    Attributes:
        strength_range: of the factor of the differences.
        channel_share: share of the channels of a changed sample that are.
        in_plane: whether neighbours along the first of three axes do not count.
    """

    strength_range: tuple[float, float]
    channel_share: float = 0.5
    in_plane: bool

    def change(self, image: Floats, rng: np.random.Generator) -> None:
        """Sharpen channels."""
        for channel in chosen_channels(image, self.channel_share, rng):
            sharpen(channel, rng.uniform(*self.strength_range), in_plane=self.in_plane)


def draw_hill(shape: Sequence[int], rng: np.random.Generator) -> Floats:
    """A Gaussian with a random centre and random widths.

    The centre lies up to half the patch's length outside of it, the widths are between a sixth
    of that length and the whole, small ones as likely as large ones.

    Args:
        shape: voxels per axis.
        rng: source of randomness.

    Returns:
        float32 of ``shape``, 0 at its lowest and 1 at its highest voxel.
    """
    result = np.ones((1,) * len(shape), dtype=np.float32)
    for axis, length in enumerate(shape):
        centre = rng.uniform(-0.5, 1.5) * length
        width = np.exp(rng.uniform(log(length / 6), log(length)))
        profile = np.exp(-0.5 * ((np.arange(length) - centre) / width) ** 2).astype(np.float32)
        result = result * profile.reshape((-1,) + (1,) * (len(shape) - axis - 1))
    result -= result.min()
    highest = result.max()
    return result / highest if highest > 0 else result


def change_local_gamma(channel: Floats, exponent: float, weight: Floats) -> None:
    """Mix a channel with a power of it, in place.

    Args:
        channel: ``patch``.
        exponent: of the intensities as shares of their range.
        weight: ``patch``, 0 where the channel stays, 1 where it becomes the power.
    """
    low, high = channel.min(), channel.max()
    if not low < high:
        return
    shares = channel - low
    shares /= high - low
    bent = np.power(shares, np.float32(exponent))
    bent -= shares
    bent *= weight
    bent *= high - low
    channel += bent


def sharpen(channel: Floats, strength: float, *, in_plane: bool = False) -> None:
    """Add the sum of the differences from all direct neighbours, in place.

    Args:
        channel: ``patch``; beyond its borders it goes on with its edge values.
        strength: factor of the differences.
        in_plane: whether neighbours along the first axis do not count.
    """
    differences = np.zeros_like(channel)
    for axis in range(int(in_plane), channel.ndim):
        rows, target = np.moveaxis(channel, axis, 0), np.moveaxis(differences, axis, 0)
        step = np.diff(rows, axis=0)
        target[:-1] -= step
        target[1:] += step
    differences *= np.float32(strength)
    channel += differences
