"""Random changes of intensities for the strong augmentation: most differ from place to place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from autoseg.train.augmentation.intensity import (
    Change,
    DrawnTransform,
    Floats,
    chosen_channels,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetChange(Change):
    """A constant to be added."""

    constant: float

    def make(self, channel: Floats) -> None:
        """Add it."""
        np.add(channel, np.float32(self.constant), out=channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset(DrawnTransform):
    """A constant added to a channel.

    Attributes:
        deviation: standard deviation of the constant; its mean is 0.
        channel_share: share of the channels of a changed sample that are.
    """

    deviation: float
    channel_share: float = 0.5

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[OffsetChange]:
        """Draw the channels and their constants."""
        for channel in chosen_channels(shape[0], self.channel_share, rng):
            yield OffsetChange(channel=channel, constant=rng.normal(0.0, self.deviation))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankRectanglesChange(Change):
    """Boxes to be blanked, one after the other.

    Attributes:
        boxes: first voxel and end of each, per axis.
    """

    boxes: tuple[tuple[tuple[int, int], ...], ...]

    def make(self, channel: Floats) -> None:
        """Blank them."""
        for box in self.boxes:
            part = channel[tuple(slice(*limits) for limits in box)]
            part[...] = part.mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankRectangles(DrawnTransform):
    """Up to four boxes that hold nothing but their mean.

    Attributes:
        channel_share: share of the channels of a changed sample that are.
    """

    channel_share: float = 0.5

    def draw(
        self, shape: Sequence[int], rng: np.random.Generator
    ) -> Iterator[BlankRectanglesChange]:
        """Draw boxes whose sides are a tenth to a third of the patch's."""
        for channel in chosen_channels(shape[0], self.channel_share, rng):
            count = int(rng.integers(1, 5))
            boxes = tuple(_draw_box(shape[1:], rng) for _ in range(count))
            yield BlankRectanglesChange(channel=channel, boxes=boxes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BrightnessGradientChange(Change):
    """A hill to be added.

    Attributes:
        profiles: as ``hill`` takes them.
        height: of the hill; negative for a hollow.
    """

    profiles: tuple[Floats, ...]
    height: float

    def make(self, channel: Floats) -> None:
        """Add it."""
        added = hill(self.profiles)
        added *= np.float32(self.height)
        np.add(channel, added, out=channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrightnessGradient(DrawnTransform):
    """A wide hill or hollow added to the intensities, as an uneven coil makes it.

    Attributes:
        strength_range: of its height, which is positive or negative.
        channel_share: share of the channels of a changed sample that are.
    """

    strength_range: tuple[float, float]
    channel_share: float = 0.5

    def draw(
        self, shape: Sequence[int], rng: np.random.Generator
    ) -> Iterator[BrightnessGradientChange]:
        """Draw the channels and their hills."""
        for channel in chosen_channels(shape[0], self.channel_share, rng):
            profiles = draw_profiles(shape[1:], rng)
            height = float(rng.uniform(*self.strength_range) * rng.choice((-1, 1)))
            yield BrightnessGradientChange(channel=channel, profiles=profiles, height=height)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalGammaChange(Change):
    """A power of the intensities, and where.

    Attributes:
        exponent: of the intensities as shares of their range.
        profiles: of the hill on whose top the channel becomes the power.
    """

    exponent: float
    profiles: tuple[Floats, ...]

    def make(self, channel: Floats) -> None:
        """Bend the intensities there."""
        change_local_gamma(channel, self.exponent, hill(self.profiles))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGamma(DrawnTransform):
    """A power of the intensities that fades out with the distance from a point.

    Attributes:
        low_range: of exponents below 1, which half of the channels get.
        high_range: of exponents above 1.
        channel_share: share of the channels of a changed sample that are.
    """

    low_range: tuple[float, float]
    high_range: tuple[float, float]
    channel_share: float = 0.5

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[LocalGammaChange]:
        """Draw the channels, their powers, and where."""
        for channel in chosen_channels(shape[0], self.channel_share, rng):
            limits = self.low_range if rng.random() < 0.5 else self.high_range
            exponent = rng.uniform(*limits)
            profiles = draw_profiles(shape[1:], rng)
            yield LocalGammaChange(channel=channel, exponent=exponent, profiles=profiles)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharpenChange(Change):
    """How much of the differences from the neighbours is added.

    Attributes:
        strength: their factor.
        in_plane: whether neighbours along the first of three axes do not count.
    """

    strength: float
    in_plane: bool

    def make(self, channel: Floats) -> None:
        """Sharpen."""
        sharpen(channel, self.strength, in_plane=self.in_plane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharpen(DrawnTransform):
    """Differences from the neighbours added to the intensities.

    Attributes:
        strength_range: of the factor of the differences.
        channel_share: share of the channels of a changed sample that are.
        in_plane: whether neighbours along the first of three axes do not count.
    """

    strength_range: tuple[float, float]
    channel_share: float = 0.5
    in_plane: bool

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[SharpenChange]:
        """Draw the channels and their strengths."""
        for channel in chosen_channels(shape[0], self.channel_share, rng):
            strength = rng.uniform(*self.strength_range)
            yield SharpenChange(channel=channel, strength=strength, in_plane=self.in_plane)


def draw_profiles(shape: Sequence[int], rng: np.random.Generator) -> tuple[Floats, ...]:
    """A Gaussian with a random centre and random widths, per axis.

    The centre lies up to half the patch's length outside of it, the widths are between a sixth
    of that length and the whole, small ones as likely as large ones.

    Args:
        shape: voxels per axis.
        rng: source of randomness.

    Returns:
        float32 ``(length,)`` for each axis; the Gaussian is their product.
    """
    profiles: list[Floats] = []
    for length in shape:
        centre = rng.uniform(-0.5, 1.5) * length
        width = np.exp(rng.uniform(log(length / 6), log(length)))
        profile = np.exp(-0.5 * ((np.arange(length) - centre) / width) ** 2)
        profiles.append(profile.astype(np.float32))
    return tuple(profiles)


def hill(profiles: Sequence[Floats]) -> Floats:
    """The product of profiles, between 0 and 1.

    Args:
        profiles: float32, one per axis.

    Returns:
        float32, 0 at its lowest and 1 at its highest voxel.
    """
    result = np.ones((1,) * len(profiles), dtype=np.float32)
    for axis, profile in enumerate(profiles):
        result = result * profile.reshape((-1,) + (1,) * (len(profiles) - axis - 1))
    result -= result.min()
    highest = result.max()
    return result / highest if highest > 0 else result


def _draw_box(shape: Sequence[int], rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """First voxel and end per axis; a side is a tenth to a third of the patch's."""
    box: list[tuple[int, int]] = []
    for length in shape:
        side = int(rng.integers(max(1, length // 10), max(1, length // 3) + 1))
        start = int(rng.integers(0, length - side + 1))
        box.append((start, start + side))
    return tuple(box)


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
