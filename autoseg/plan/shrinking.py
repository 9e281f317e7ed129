"""The patches a search meets on its way from the first to the smallest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from math import prod

from autoseg.core.layers import feature_map_elements
from autoseg.core.plan import Axes, NetworkSpec
from autoseg.errors import DataError
from autoseg.plan.presets import Preset, max_features
from autoseg.plan.room import Candidate, Grid, Room
from autoseg.plan.topology import Topology, features_per_stage, pooling_topology

INITIAL_EDGE_2D = 2048
INITIAL_EDGE_3D = 256


class ShrinkingPatches:
    """Patches from the first one down, made as far as they are asked for.

    They depend on the data alone: how far down a patch has to go is decided by the memory.

    Args:
        grid: the data.
        preset: the kind of network.
        num_entries: entries of the label table, which the network is counted with.

    Raises:
        DataError: if the median case cannot be halved even once.
    """

    def __init__(self, grid: Grid, preset: Preset, num_entries: int) -> None:
        self._known: list[Candidate] = []
        first = _first_topology(grid)
        self._more = _smaller_and_smaller(first, grid, preset, num_entries)

    def __getitem__(self, index: int) -> Candidate:
        """One of the patches that were met already."""
        return self._known[index]

    def __iter__(self) -> Iterator[Candidate]:
        """From the largest down."""
        for index in count():
            if index == len(self._known):
                candidate = next(self._more, None)
                if candidate is None:
                    return
                self._known.append(candidate)
            yield self._known[index]

    def first_that_fits(self, room: Room, budget_bytes: int) -> int | None:
        """Index of the largest patch that fits; None if none does."""
        fitting = (i for i, candidate in enumerate(self) if room.fits(candidate, budget_bytes))
        return next(fitting, None)


@lru_cache(maxsize=1024)
def shrinking_patches(grid: Grid, preset: Preset, num_entries: int) -> ShrinkingPatches:
    """Patches as ``ShrinkingPatches`` makes them, the same ones for the same data.

    Whatever rules and memory they are looked at with, so that comparing costs little.
    """
    return ShrinkingPatches(grid, preset, num_entries)


def can_be_halved(grid: Grid) -> bool:
    """Whether the median case is large enough for a network of two stages."""
    return pooling_topology(grid.spacing, _first_size(grid)).num_stages > 1


@lru_cache(maxsize=4096)
def weigh(topology: Topology, preset: Preset, num_entries: int) -> tuple[NetworkSpec, int]:
    """The network of a topology and its feature map elements.

    Remembered, because the search for a low resolution meets the same patches at every step.
    """
    stages = topology.num_stages
    maximum = max_features(len(topology.patch_size))
    network = NetworkSpec(
        architecture=preset.architecture,
        features_per_stage=features_per_stage(stages, maximum, preset.base_features),
        strides=topology.strides,
        kernel_sizes=topology.kernel_sizes,
        blocks_per_stage=preset.blocks(stages),
        decoder_blocks_per_stage=(preset.decoder_blocks,) * (stages - 1),
    )
    return network, feature_map_elements(network, topology.patch_size, num_entries)


def _first_size(grid: Grid) -> tuple[float, ...]:
    edge = INITIAL_EDGE_2D if grid.dimensions == 2 else INITIAL_EDGE_3D
    density = [1 / mm for mm in grid.spacing]
    scale = (edge**grid.dimensions / prod(density)) ** (1 / grid.dimensions)
    return tuple(
        min(round(per_mm * scale), median)
        for per_mm, median in zip(density, grid.median_shape, strict=True)
    )


def _first_topology(grid: Grid) -> Topology:
    if not can_be_halved(grid):
        shape = "x".join(f"{voxels:g}" for voxels in grid.median_shape)
        spacing = " x ".join(f"{mm:.4g}" for mm in grid.spacing)
        raise DataError(
            f"the median case has {shape} voxels of {spacing} mm, too few along its finest axes "
            "for a network",
            remedy="choose another target spacing (--spacing)",
        )
    return pooling_topology(grid.spacing, _first_size(grid))


def _smaller_and_smaller(
    first: Topology, grid: Grid, preset: Preset, num_entries: int
) -> Iterator[Candidate]:
    topology, num_steps = first, 0
    while topology is not None:
        network, elements = weigh(topology, preset, num_entries)
        yield Candidate(
            network=network,
            patch_size=topology.patch_size,
            elements=elements,
            num_steps=num_steps,
        )
        topology, num_steps = _shrink(topology, grid), num_steps + 1


def _shrink(topology: Topology, grid: Grid) -> Topology | None:
    """Make the patch one step smaller along the axis that covers the median case best.

    Returns:
        The smaller patch; None if no network is left for it.
    """
    patch = topology.patch_size
    axis = max(range(len(patch)), key=lambda a: (patch[a] / grid.median_shape[a], a))
    # A smaller patch may pool less often and allow a smaller step: 256 goes to 224, not to 192.
    tentative = pooling_topology(grid.spacing, _less(patch, axis, topology.divisor[axis]))
    smaller = pooling_topology(grid.spacing, _less(patch, axis, tentative.divisor[axis]))
    return smaller if min(smaller.patch_size) >= 1 and smaller.num_stages > 1 else None


def _less(patch: Axes, axis: int, step: int) -> Axes:
    return tuple(size - step * (index == axis) for index, size in enumerate(patch))
