"""The largest patch and batch of one configuration that a memory budget allows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal

from autoseg.core.layers import feature_map_elements
from autoseg.core.plan import Axes, NetworkSpec
from autoseg.errors import AutosegError, DataError
from autoseg.plan.memory import GIGABYTE
from autoseg.plan.presets import (
    MAX_FEATURES_2D,
    MAX_FEATURES_3D,
    MIN_BATCH_SIZE,
    REFERENCE_BATCH_2D,
    REFERENCE_BATCH_3D,
    Preset,
)
from autoseg.plan.topology import Topology, features_per_stage, pooling_topology

INITIAL_EDGE_2D = 2048
INITIAL_EDGE_3D = 256

BatchRule = Literal["memory", "data set", "minimum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The data as a configuration sees them, axes transposed.

    Attributes:
        spacing: mm per axis, a triple or (2D) a pair.
        median_shape: voxels per axis of the median case; may end in .5.
        num_voxels: of the whole data set, in 3D also for a 2D grid.
    """

    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]
    num_voxels: float

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.spacing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A network and patch that fit, and how they were found.

    Attributes:
        network: the network's shape.
        patch_size: voxels per axis.
        batch_size: patches per step.
        batch_rule: what the batch size was limited by.
        batch_by_memory: batch size memory alone would allow.
        batch_by_data: batch size the data set alone would allow.
        elements: feature map elements of a patch.
        max_elements: what a patch was shrunk to fit.
        first_patch: patch the search began with.
        num_steps: how often it was made smaller.
    """

    network: NetworkSpec
    patch_size: Axes
    batch_size: int
    batch_rule: BatchRule
    batch_by_memory: int
    batch_by_data: int
    elements: int
    max_elements: float
    first_patch: Axes
    num_steps: int


def fit(grid: Grid, preset: Preset, budget_bytes: int, num_entries: int) -> Fit:
    """Find the largest patch, its network and its batch.

    The search starts from as many voxels as a cube of 256 (a square of 2048) with the physical
    proportions of a cube, or the median case where that is smaller, and takes steps off the
    axis that covers the median case best until the reference's count of feature map elements
    fits. What memory is then left goes into the batch.

    Args:
        grid: the data.
        preset: the kind of network and its limits.
        budget_bytes: GPU memory.
        num_entries: entries of the label table: background, structures and ignore label.

    Returns:
        The outcome with the numbers that led to it.

    Raises:
        DataError: if the median case cannot be halved even once.
        AutosegError: if no patch is small enough for the budget.
    """
    scale = budget_bytes / preset.budget_bytes
    reference_batch = REFERENCE_BATCH_2D if grid.dimensions == 2 else REFERENCE_BATCH_3D
    batch_elements = preset.elements(grid.dimensions) * scale * reference_batch
    max_elements = batch_elements / preset.smallest_batch(grid.dimensions)

    topology = first = _first_topology(grid)
    network, elements = _weigh(topology, preset, num_entries)
    num_steps = 0
    while elements > max_elements:
        topology = _shrink(topology, grid, budget_bytes)
        network, elements = _weigh(topology, preset, num_entries)
        num_steps += 1

    by_memory = round(batch_elements / elements)
    by_data = round(grid.num_voxels * preset.max_batch_fraction / prod(topology.patch_size))
    return Fit(
        network=network,
        patch_size=topology.patch_size,
        batch_size=max(min(by_memory, by_data), MIN_BATCH_SIZE),
        batch_rule=_batch_rule(by_memory, by_data),
        batch_by_memory=by_memory,
        batch_by_data=by_data,
        elements=elements,
        max_elements=max_elements,
        first_patch=first.patch_size,
        num_steps=num_steps,
    )


def can_be_halved(grid: Grid) -> bool:
    """Whether the median case is large enough for a network of two stages."""
    return pooling_topology(grid.spacing, _first_size(grid)).num_stages > 1


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


@lru_cache(maxsize=4096)
def _weigh(topology: Topology, preset: Preset, num_entries: int) -> tuple[NetworkSpec, int]:
    """The network of a topology and its feature map elements.

    Remembered, because the search for a low resolution meets the same patches at every step.
    """
    stages = topology.num_stages
    maximum = MAX_FEATURES_2D if len(topology.patch_size) == 2 else MAX_FEATURES_3D
    network = NetworkSpec(
        architecture=preset.architecture,
        features_per_stage=features_per_stage(stages, maximum, preset.base_features),
        strides=topology.strides,
        kernel_sizes=topology.kernel_sizes,
        blocks_per_stage=preset.blocks(stages),
        decoder_blocks_per_stage=(preset.decoder_blocks,) * (stages - 1),
    )
    return network, feature_map_elements(network, topology.patch_size, num_entries)


def _shrink(topology: Topology, grid: Grid, budget_bytes: int) -> Topology:
    """Make the patch one step smaller along the axis that covers the median case best."""
    patch = topology.patch_size
    axis = max(range(len(patch)), key=lambda a: (patch[a] / grid.median_shape[a], a))
    # A smaller patch may pool less often and allow a smaller step: 256 goes to 224, not to 192.
    tentative = pooling_topology(grid.spacing, _less(patch, axis, topology.divisor[axis]))
    smaller = pooling_topology(grid.spacing, _less(patch, axis, tentative.divisor[axis]))
    if min(smaller.patch_size) < 1 or smaller.num_stages < 2:
        raise AutosegError(
            f"not even a patch of {'x'.join(map(str, patch))} voxels fits into "
            f"{budget_bytes / GIGABYTE:g} GB",
            remedy="plan for more GPU memory (--gpu-memory)",
        )
    return smaller


def _less(patch: Axes, axis: int, step: int) -> Axes:
    return tuple(size - step * (index == axis) for index, size in enumerate(patch))


def _batch_rule(by_memory: int, by_data: int) -> BatchRule:
    if min(by_memory, by_data) < MIN_BATCH_SIZE:
        return "minimum"
    return "memory" if by_memory <= by_data else "data set"
