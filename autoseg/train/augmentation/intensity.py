"""Random changes of intensities, as batchgenerators calls them: dictionaries in, dictionaries out.

Unlike those of batchgenerators they draw from the sample's own generator, work in place and stay
in single precision. What is drawn is a value of its own, a change, which is made here or elsewhere:
a GPU makes the same changes (``on_device``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from autoseg.imaging.resample import resize

Floats = npt.NDArray[np.float32]

# Voxels looked at together: they stay in a cache from one operation to the next.
_PIECE = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform(ABC):
    """A random change of the intensities of a patch.

    Attributes:
        share: share of the samples that are changed.
    """

    share: float

    def __call__(
        self, *, data: Floats, rng: np.random.Generator, **others: object
    ) -> dict[str, object]:
        """Change a batch, in place if it is C-contiguous float32.

        Args:
            data: ``(samples, channels, *patch)``.
            rng: source of randomness.
            others: passed on.

        Returns:
            All arguments, by name.
        """
        data = np.ascontiguousarray(data, dtype=np.float32)
        for image in data:
            if rng.random() < self.share:
                self.change(image, rng)
        return {"data": data, "rng": rng, **others}

    @abstractmethod
    def change(self, image: Floats, rng: np.random.Generator) -> None:
        """Change one image ``(channels, *patch)`` in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(ABC):
    """What was drawn for a channel of a sample.

    Attributes:
        channel: its number.
    """

    channel: int

    @abstractmethod
    def make(self, channel: Floats) -> None:
        """Change the channel ``patch`` in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTransform(Transform):
    """A transform whose changes can be drawn by one and made by another."""

    @abstractmethod
    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[Change]:
        """Draw the changes of a sample that is changed.

        Args:
            shape: ``(channels, *patch)``.
            rng: source of randomness.
        """

    def change(self, image: Floats, rng: np.random.Generator) -> None:
        """Make changes as they are drawn."""
        for change in self.draw(image.shape, rng):
            change.make(image[change.channel])

    def drawn(self, shape: Sequence[int], rng: np.random.Generator) -> tuple[Change, ...]:
        """Draw all that happens to a sample, as a call would do.

        Args:
            shape: ``(channels, *patch)``.
            rng: source of randomness.
        """
        return tuple(self.draw(shape, rng)) if rng.random() < self.share else ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseChange(Change):
    """Values to be added.

    Attributes:
        values: ``patch``.
    """

    values: Floats

    def make(self, channel: Floats) -> None:
        """Add them."""
        np.add(channel, self.values, out=channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise(DrawnTransform):
    """Gaussian noise of one standard deviation for all channels.

    Attributes:
        deviation_range: of the standard deviation.
    """

    deviation_range: tuple[float, float]

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[NoiseChange]:
        """Draw the noise of every channel, voxel by voxel."""
        deviation = np.float32(rng.uniform(*self.deviation_range))
        for channel in range(shape[0]):
            values = np.empty(shape[1:], dtype=np.float32)
            for piece in _pieces(values):
                rng.standard_normal(dtype=np.float32, out=piece)
                np.multiply(piece, deviation, out=piece)
            yield NoiseChange(channel=channel, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurChange(Change):
    """Widths of a smoothing.

    Attributes:
        sigmas: voxels per axis.
    """

    sigmas: tuple[float, ...]

    def make(self, channel: Floats) -> None:
        """Smooth."""
        blur(channel, self.sigmas)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blur(DrawnTransform):
    """Gaussian smoothing, of another width along every axis.

    Attributes:
        sigma_range: of the width, in voxels.
        channel_share: share of the channels of a changed sample that are.
    """

    sigma_range: tuple[float, float]
    channel_share: float = 0.5

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[BlurChange]:
        """Draw the channels and their widths."""
        for channel in chosen_channels(shape[0], self.channel_share, rng):
            sigmas = rng.uniform(*self.sigma_range, len(shape) - 1).tolist()
            yield BlurChange(channel=channel, sigmas=tuple(sigmas))


@dataclass(frozen=True, slots=True, kw_only=True)
class BrightnessChange(Change):
    """A factor of the intensities."""

    factor: float

    def make(self, channel: Floats) -> None:
        """Multiply."""
        np.multiply(channel, np.float32(self.factor), out=channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brightness(DrawnTransform):
    """Intensities times a factor, for every channel its own.

    Attributes:
        factor_range: of the factor; below and above 1 are equally likely.
    """

    factor_range: tuple[float, float]

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[BrightnessChange]:
        """Draw a factor for every channel."""
        for channel in range(shape[0]):
            factor = below_or_above_one(self.factor_range, rng)
            yield BrightnessChange(channel=channel, factor=factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastChange(Change):
    """A factor of the distances from the mean.

    Attributes:
        factor: above 1 for more contrast.
        clip: whether values stay in the range they had.
    """

    factor: float
    clip: bool

    def make(self, channel: Floats) -> None:
        """Stretch or squeeze about the mean."""
        change_contrast(channel, self.factor, clip=self.clip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast(DrawnTransform):
    """Distance from the mean times a factor, for every channel its own.

    Attributes:
        factor_range: of the factor; below and above 1 are equally likely.
        channel_share: share of the channels of a changed sample that are.
        clipped_share: share of the channels that are held to the range they had.
    """

    factor_range: tuple[float, float]
    channel_share: float = 1.0
    clipped_share: float = 1.0

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[ContrastChange]:
        """Draw the channels, their factors, and whether they are clipped."""
        for channel in chosen_channels(shape[0], self.channel_share, rng):
            factor = below_or_above_one(self.factor_range, rng)
            clip = bool(rng.random() < self.clipped_share)
            yield ContrastChange(channel=channel, factor=factor, clip=clip)


@dataclass(frozen=True, slots=True, kw_only=True)
class LowResolutionChange(Change):
    """How much coarser a channel becomes.

    Attributes:
        factor: of the size in between, 0..1.
        in_plane: whether the first axis keeps its resolution.
    """

    factor: float
    in_plane: bool

    def make(self, channel: Floats) -> None:
        """Coarsen."""
        lower_resolution(channel, self.factor, in_plane=self.in_plane)


@dataclass(frozen=True, slots=True, kw_only=True)
class LowResolution(DrawnTransform):
    """Shrink by the nearest voxel and enlarge linearly.

    Attributes:
        factor_range: of the smaller size, one factor for all axes.
        channel_share: share of the channels of a changed sample that are.
        in_plane: whether the first of three axes keeps its resolution.
    """

    factor_range: tuple[float, float]
    channel_share: float = 0.5
    in_plane: bool

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[LowResolutionChange]:
        """Draw the channels and their factors."""
        for channel in chosen_channels(shape[0], self.channel_share, rng):
            factor = rng.uniform(*self.factor_range)
            yield LowResolutionChange(channel=channel, factor=factor, in_plane=self.in_plane)


@dataclass(frozen=True, slots=True, kw_only=True)
class GammaChange(Change):
    """A power of the intensities.

    Attributes:
        exponent: above 1 darkens the middle of the range.
        inverted: whether to take it of the negative image.
    """

    exponent: float
    inverted: bool

    def make(self, channel: Floats) -> None:
        """Bend the intensities."""
        change_gamma(channel, self.exponent, inverted=self.inverted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma(DrawnTransform):
    """A power of the intensities, for every channel its own; mean and deviation stay.

    Attributes:
        exponent_range: of the power; below and above 1 are equally likely.
        inverted: whether to take it of the negative image.
    """

    exponent_range: tuple[float, float]
    inverted: bool

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> Iterator[GammaChange]:
        """Draw a power for every channel."""
        for channel in range(shape[0]):
            exponent = below_or_above_one(self.exponent_range, rng)
            yield GammaChange(channel=channel, exponent=exponent, inverted=self.inverted)


def chosen_channels(num_channels: int, share: float, rng: np.random.Generator) -> list[int]:
    """Numbers of channels, each with a probability of its own."""
    return np.flatnonzero(rng.random(num_channels) < share).tolist()


def below_or_above_one(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A factor that is below 1 as often as above it, and uniform on its side."""
    low, high = limits
    side = (low, 1.0) if rng.random() < 0.5 and low < 1 else (max(low, 1.0), high)
    return float(rng.uniform(*side))


def gaussian_kernel(sigma: float) -> npt.NDArray[np.float64]:
    """A sampled Gaussian as wide as the reference makes it.

    Args:
        sigma: in voxels.

    Returns:
        Weights of the odd length nearest to ``6 sigma + 0.5``, of sum 1.
    """
    radius = floor((6 * sigma - 0.5) / 2 + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def blur(channel: Floats, sigmas: Sequence[float]) -> None:
    """Smooth in place, mirrored at the borders.

    Args:
        channel: ``patch``.
        sigmas: voxels per axis.
    """
    for axis, sigma in enumerate(sigmas):
        ndimage.correlate1d(channel, gaussian_kernel(sigma), axis, output=channel, mode="mirror")


def change_contrast(channel: Floats, factor: float, *, clip: bool = True) -> None:
    """Multiply distances from the mean in place.

    Args:
        channel: ``patch``.
        factor: above 1 for more contrast.
        clip: whether values stay in the range they had.
    """
    mean, low, high = channel.mean(), channel.min(), channel.max()
    shift = mean * np.float32(1 - factor)
    for piece in _pieces(channel):
        np.multiply(piece, np.float32(factor), out=piece)
        np.add(piece, shift, out=piece)
        if clip:
            np.clip(piece, low, high, out=piece)


def coarse_size(shape: Sequence[int], factor: float, *, in_plane: bool) -> list[int]:
    """Voxels per axis of a coarsened patch.

    Args:
        shape: of the patch.
        factor: of the size, 0..1.
        in_plane: whether the first axis keeps its resolution.
    """
    size = [max(1, round(n * factor)) for n in shape]
    return [shape[0], *size[1:]] if in_plane else size


def lower_resolution(channel: Floats, factor: float, *, in_plane: bool = False) -> None:
    """Coarsen in place.

    Args:
        channel: ``patch``.
        factor: of the size in between, 0..1.
        in_plane: whether the first axis keeps its resolution.
    """
    size = coarse_size(channel.shape, factor, in_plane=in_plane)
    if channel.ndim == 2:
        # As a volume of one slice: slices are resized as wholes, planes row by row.
        channel, size = channel[None], [1, *size]
    if tuple(size) != channel.shape:
        resize(resize(channel, size, 0), channel.shape, 1, out=channel)


def change_gamma(channel: Floats, exponent: float, *, inverted: bool = False) -> None:
    """Take a power of the intensities, as shares of their range, in place.

    Args:
        channel: ``patch``.
        exponent: above 1 darkens the middle of the range.
        inverted: whether to take it of the negative image.
    """
    low, high = channel.min(), channel.max()
    if not low < high:
        return
    mean, deviation = _moments(channel)
    start, slope = (high, low - high) if inverted else (low, high - low)
    # The power as exponential and logarithm: numpy vectorizes these on more processors.
    with np.errstate(divide="ignore"):
        for piece in _pieces(channel):
            np.subtract(piece, start, out=piece)
            np.divide(piece, slope, out=piece)
            np.log(piece, out=piece)
            np.multiply(piece, np.float32(exponent), out=piece)
            np.exp(piece, out=piece)
    bent_mean, bent_deviation = _moments(channel)
    scale = deviation / bent_deviation * (-1 if inverted else 1)
    for piece in _pieces(channel):
        np.subtract(piece, np.float32(bent_mean), out=piece)
        np.multiply(piece, np.float32(scale), out=piece)
        np.add(piece, np.float32(mean), out=piece)


def _moments(channel: Floats) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = float(channel.mean(dtype=np.float64))
    squares = 0.0
    for piece in _pieces(channel):
        distance = piece - np.float32(mean)
        distance *= distance
        squares += float(distance.sum())
    return mean, sqrt(squares / (channel.size - 1))


def _pieces(array: Floats) -> Iterator[Floats]:
    """Views of a C-contiguous array, one after the other."""
    flat = array.reshape(-1)
    return (flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE))
