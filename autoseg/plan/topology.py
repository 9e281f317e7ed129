"""Which axes a network halves at which stage, and the patch that allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from autoseg.core.plan import Axes

MIN_EDGE_VOX = 4
MAX_SPACING_RATIO = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A patch and the pooling that fits it.

    Attributes:
        patch_size: voxels per axis, a multiple of ``divisor``.
        strides: stride of each stage per axis; the first is all ones.
        kernel_sizes: kernel of each stage per axis.
    """

    patch_size: Axes
    strides: tuple[Axes, ...]
    kernel_sizes: tuple[Axes, ...]

    @property
    def num_stages(self) -> int:
        """Number of resolutions."""
        return len(self.strides)

    @property
    def num_poolings(self) -> Axes:
        """How often each axis is halved."""
        return tuple(sum(stride > 1 for stride in axis) for axis in zip(*self.strides, strict=True))

    @property
    def divisor(self) -> Axes:
        """What the patch must be a multiple of, per axis."""
        return tuple(2**poolings for poolings in self.num_poolings)


def pooling_topology(spacing: Sequence[float], size: Sequence[float]) -> Topology:
    """Derive strides, kernels and the final patch from a wanted patch.

    An axis is halved as long as four voxels remain, and only together with the axes whose
    spacing, at that stage, is within a factor of two of the finest. Convolutions are flat
    across a coarse axis until halving the others has brought it within that factor.

    Args:
        spacing: mm per axis.
        size: wanted patch in voxels per axis; may be fractional (half voxels of a median).

    Returns:
        The topology; its patch is ``size`` rounded up to what the pooling divides.
    """
    current_spacing, current_size = list(spacing), list(size)
    kernel = [1] * len(spacing)
    strides: list[Axes] = [(1,) * len(spacing)]
    kernels: list[Axes] = []
    while axes := _axes_to_halve(current_spacing, current_size):
        kernel = [
            3 if extent == 3 or mm / min(current_spacing) < MAX_SPACING_RATIO else 1
            for extent, mm in zip(kernel, current_spacing, strict=True)
        ]
        for axis in axes:
            current_spacing[axis] *= 2
            current_size[axis] = ceil(current_size[axis] / 2)
        strides.append(tuple(2 if axis in axes else 1 for axis in range(len(spacing))))
        kernels.append(tuple(kernel))
    kernels.append((3,) * len(spacing))
    return _round_up(size, tuple(strides), tuple(kernels))


def features_per_stage(num_stages: int, maximum: int, base: int = 32) -> tuple[int, ...]:
    """Channels of each stage: doubled from stage to stage up to a maximum.

    Args:
        num_stages: number of resolutions.
        maximum: most channels of a stage.
        base: channels at full resolution.

    Returns:
        One number per stage, full resolution first.
    """
    return tuple(min(maximum, base * 2**stage) for stage in range(num_stages))


def _axes_to_halve(spacing: Sequence[float], size: Sequence[float]) -> list[int]:
    long_enough = [axis for axis, voxels in enumerate(size) if voxels >= 2 * MIN_EDGE_VOX]
    if not long_enough:
        return []
    finest = min(spacing[axis] for axis in long_enough)
    axes = [axis for axis in long_enough if spacing[axis] / finest < MAX_SPACING_RATIO]
    # A stage that halves a single axis is only worth its cost with voxels to spare.
    if len(axes) == 1 and size[axes[0]] < 3 * MIN_EDGE_VOX:
        return []
    return axes


def _round_up(
    size: Sequence[float], strides: tuple[Axes, ...], kernel_sizes: tuple[Axes, ...]
) -> Topology:
    wanted = tuple(ceil(voxels) for voxels in size)
    topology = Topology(patch_size=wanted, strides=strides, kernel_sizes=kernel_sizes)
    rounded = tuple(
        ceil(voxels / by) * by for voxels, by in zip(size, topology.divisor, strict=True)
    )
    return Topology(patch_size=rounded, strides=strides, kernel_sizes=kernel_sizes)
