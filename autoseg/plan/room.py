"""How much of a network a GPU memory holds, by the reference's count and in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from typing import Literal

from autoseg.core.plan import Axes, NetworkSpec
from autoseg.plan.memory import training_memory
from autoseg.plan.presets import MIN_BATCH_SIZE, REFERENCE_BATCH_2D, REFERENCE_BATCH_3D, Preset
from autoseg.plan.rules import MAX_BATCH_SIZE, Rule

BatchRule = Literal[
    "memory", "data set", "minimum", "bytes", "large batch", "steady growth", "user"
]


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
class Limits:
    """What a network has to fit, and what goes in and out of it.

    Attributes:
        preset: the kind of network and its limits.
        budget_bytes: GPU memory.
        num_entries: entries of the label table: background, structures and ignore label.
        num_channels: channels of the input.
        num_outputs: channels of the output.
        rules: rules of autoseg's own in force.
    """

    preset: Preset
    budget_bytes: int
    num_entries: int
    num_channels: int
    num_outputs: int
    rules: frozenset[Rule]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A patch with its network.

    Attributes:
        network: the network's shape.
        patch_size: voxels per axis.
        elements: feature map elements of a patch.
        num_steps: steps of shrinking it took to get here.
    """

    network: NetworkSpec
    patch_size: Axes
    elements: int
    num_steps: int = 0

    @property
    def num_voxels(self) -> int:
        """Voxels of the patch."""
        return prod(self.patch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A number of patches, and what limited it.

    Attributes:
        size: patches per step.
        rule: which limit decided.
        by_memory: what the reference's count would allow.
        by_data: what the size of the data set would allow.
        by_bytes: what the estimate in bytes would allow; None if it does not count.
    """

    size: int
    rule: BatchRule
    by_memory: int
    by_data: int
    by_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What fits into a GPU memory.

    Attributes:
        grid: the data.
        limits: network and rules.
        wanted_batch: the batch a user wants; None to derive it.
    """

    grid: Grid
    limits: Limits
    wanted_batch: int | None = None

    def max_elements(self, budget_bytes: int) -> float:
        """Feature map elements a patch may have."""
        return self._batch_elements(budget_bytes) / self._counted_batch

    def fits(self, candidate: Candidate, budget_bytes: int) -> bool:
        """Whether the smallest batch, or the one wanted, fits."""
        if candidate.elements > self.max_elements(budget_bytes):
            return False
        return not self._weighs_bytes or self._least_bytes(candidate) <= budget_bytes

    def need_bytes(self, candidate: Candidate) -> int:
        """The smallest GPU memory that a candidate fits into."""
        counted = self._counted_batch * candidate.elements / self._batch_elements(1)
        need = max(ceil(counted), self._least_bytes(candidate) if self._weighs_bytes else 1)
        # Rounding in either direction must not part this answer from that of `fits`.
        while need > 1 and self.fits(candidate, need - 1):
            need -= 1
        while not self.fits(candidate, need):
            need += 1
        return need

    def batch(self, candidate: Candidate, budget_bytes: int) -> Batch:
        """The batch of a candidate that fits."""
        by_memory = round(self._batch_elements(budget_bytes) / candidate.elements)
        fraction = self.limits.preset.max_batch_fraction
        by_data = round(self.grid.num_voxels * fraction / candidate.num_voxels)
        by_bytes = self._batch_by_bytes(candidate, budget_bytes) if self._weighs_bytes else None
        size, rule = self._smallest(by_memory, by_data, by_bytes)
        if self.wanted_batch is not None:
            size, rule = self.wanted_batch, "user"
        return Batch(size=size, rule=rule, by_memory=by_memory, by_data=by_data, by_bytes=by_bytes)

    def estimate_bytes(self, candidate: Candidate, batch_size: int) -> int:
        """What a training step takes, at mixed precision."""
        fixed, per_sample = _bytes(
            candidate.network,  # type: ignore[arg-type]  # frozen models can be hashed
            candidate.patch_size,
            self.limits.num_channels,
            self.limits.num_outputs,
        )
        return fixed + batch_size * per_sample

    @property
    def _weighs_bytes(self) -> bool:
        return "bytes" in self.limits.rules

    @property
    def _least_batch(self) -> int:
        return self.wanted_batch or MIN_BATCH_SIZE

    @property
    def _counted_batch(self) -> int:
        """The batch that a patch has to leave room for in the reference's count."""
        if self.wanted_batch is not None or "residual 2d" in self.limits.rules:
            return self._least_batch
        return self.limits.preset.smallest_batch(self.grid.dimensions)

    def _batch_elements(self, budget_bytes: int) -> float:
        """Feature map elements a whole batch may have."""
        preset, dimensions = self.limits.preset, self.grid.dimensions
        scale = budget_bytes / preset.budget_bytes
        reference_batch = REFERENCE_BATCH_2D if dimensions == 2 else REFERENCE_BATCH_3D
        return preset.elements(dimensions) * scale * reference_batch

    def _least_bytes(self, candidate: Candidate) -> int:
        return self.estimate_bytes(candidate, self._least_batch)

    def _batch_by_bytes(self, candidate: Candidate, budget_bytes: int) -> int:
        fixed, one = self.estimate_bytes(candidate, 0), self.estimate_bytes(candidate, 1)
        return (budget_bytes - fixed) // (one - fixed)

    def _smallest(
        self, by_memory: int, by_data: int, by_bytes: int | None
    ) -> tuple[int, BatchRule]:
        allowed: list[tuple[int, BatchRule]] = [(by_memory, "memory"), (by_data, "data set")]
        if by_bytes is not None:
            allowed.append((by_bytes, "bytes"))
        if "large batch" in self.limits.rules:
            allowed.append((MAX_BATCH_SIZE, "large batch"))
        size, rule = min(allowed, key=lambda limit: limit[0])
        return (size, rule) if size >= MIN_BATCH_SIZE else (MIN_BATCH_SIZE, "minimum")


@lru_cache(maxsize=4096)
def _bytes(
    network: NetworkSpec, patch_size: Axes, num_channels: int, num_outputs: int
) -> tuple[int, int]:
    """Bytes of a training step without a sample, and of each sample."""
    one, two = (
        training_memory(
            network, patch_size, batch, num_channels=num_channels, num_outputs=num_outputs
        ).total
        for batch in (1, 2)
    )
    return 2 * one - two, two - one
