"""Intensities of a case in bounded memory, and their statistics over cases: pure functions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
import numpy.typing as npt

from autoseg.core.fingerprint import IntensityStats

MOST_VALUES = 10_000
"""So many different values are counted one by one, whatever they are."""

MOST_WHOLE_NUMBERS = 2**18
"""So many are if all of them are whole numbers."""

NUM_STEPS = 2**11
"""Ranges of values in the length of a case's own range; they get longer far from its median."""

NUM_RANKS = 2**12
"""No range holds more than one part in so many of the voxels, unless they are of one value."""

FARTHEST = 8.0
"""Beyond this position (1490 times the case's own range) values are ranged by rank alone."""

ROUNDING = 1e-12

_PERCENTILES = (0.005, 0.5, 0.995)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensitySketch:
    """The distribution of a case's foreground intensities in one channel, in bounded memory.

    Up to ``MOST_VALUES`` different values, and up to ``MOST_WHOLE_NUMBERS`` if all are whole,
    are kept with their exact frequency: 12 bytes each, at most 3 MiB. More are put together in
    at most 40,961 ranges (480 KiB), each known by its middle. That moves no value by more than
    0.04% of the case's own range (from percentile 0.5 to 99.5), nor, farther from the median
    than that, by more than 0.04% of the distance.

    Attributes:
        values: float32, ascending, all different.
        counts: int64, number of voxels each value stands for.
        mean: over all voxels, exact.
        mean_square: over all voxels, exact.
        minimum: over all voxels.
        maximum: over all voxels.
    """

    values: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    mean: float
    mean_square: float
    minimum: float
    maximum: float


def sketch(values: npt.NDArray[np.float32]) -> IntensitySketch:
    """Summarise intensities.

    Args:
        values: finite, at least one, any order.
    """
    kept, counts = np.unique(values, return_counts=True)
    lowest, highest = float(kept[0]), float(kept[-1])
    if len(kept) > MOST_VALUES:
        is_whole = np.array_equal(np.rint(kept), kept)
        if not is_whole or len(kept) > MOST_WHOLE_NUMBERS:
            kept, counts = _in_ranges(kept, counts)
    exact = values.astype(np.float64)
    return IntensitySketch(
        values=kept,
        counts=counts.astype(np.int64, copy=False),
        mean=float(exact.mean()),
        mean_square=float(np.square(exact).mean()),
        minimum=lowest,
        maximum=highest,
    )


def _in_ranges(
    values: npt.NDArray[np.float32], counts: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.integer]]:
    """Put neighbouring values together.

    The steps grow with the distance from the median as those of a hyperbolic sine: cases of
    other contrast, whose percentiles lie elsewhere, are then met with the same relative error.
    """
    exact = values.astype(np.float64)
    below = np.cumsum(counts)
    low, median, high = exact[np.searchsorted(below, np.multiply(_PERCENTILES, below[-1]))]
    scale = high - low if high > low else exact[-1] - exact[0]
    position = np.clip(np.arcsinh((exact - median) / scale), -FARTHEST, FARTHEST)
    step = np.floor(position * NUM_STEPS)
    # Ranks of the first and the last voxel of each value: a frequent value stays by itself.
    rank = (below - counts) * NUM_RANKS // below[-1] + (below - 1) * NUM_RANKS // below[-1]
    starts = np.flatnonzero(np.diff(step, prepend=np.nan) + np.diff(rank, prepend=-1))
    ends = np.append(starts[1:], len(values)) - 1
    middles = (exact[starts] + exact[ends]) / 2
    return middles.astype(np.float32), np.add.reduceat(counts, starts)


def combine(sketches: Sequence[IntensitySketch]) -> IntensityStats:
    """Statistics over cases that all weigh the same.

    Every voxel weighs one by the number of voxels of its case. A percentile is the smallest
    value at or below which at least that part of the weight lies: exact if every sketch is.
    Otherwise it is off by no more than the farthest any sketch has moved a value, for cases of
    like contrast 0.04% of the range from percentile 0.5 to 99.5.

    Args:
        sketches: one per case with foreground, at least one; their order has no influence on
            percentiles.

    References:
        The reference draws 10^8 voxels, equally many from each case, and interpolates between
        neighbours in rank; so large a sample has no gaps to speak of between them.
    """
    low, middle, high = _percentiles(sketches)
    mean = float(np.mean([s.mean for s in sketches]))
    variance = float(np.mean([s.mean_square for s in sketches])) - mean**2
    return IntensityStats(
        mean=mean,
        median=middle,
        std=max(variance, 0.0) ** 0.5,
        min=min(s.minimum for s in sketches),
        max=max(s.maximum for s in sketches),
        percentile_00_5=low,
        percentile_99_5=high,
    )


def _percentiles(sketches: Sequence[IntensitySketch]) -> tuple[float, ...]:
    candidates = np.unique(np.concatenate([s.values for s in sketches]))
    below = [np.cumsum(np.append(0, s.counts)) / s.counts.sum() for s in sketches]

    def share_up_to(value: np.float32) -> float:
        """Exact to the last bit or two, so that two equal halves meet at the median."""
        shares = (
            share[np.searchsorted(s.values, value, side="right")]
            for s, share in zip(sketches, below, strict=True)
        )
        return fsum(shares) / len(sketches)

    return tuple(
        float(candidates[bisect_left(candidates, share - ROUNDING, key=share_up_to)])
        for share in _PERCENTILES
    )
