"""The largest patch and batch of one configuration that a memory budget allows."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from autoseg.core.layers import feature_map_elements
from autoseg.core.plan import Axes, NetworkSpec
from autoseg.errors import AutosegError
from autoseg.plan.memory import GIGABYTE
from autoseg.plan.room import Batch, Candidate, Grid, Limits, Room
from autoseg.plan.shrinking import ShrinkingPatches, shrinking_patches, weigh
from autoseg.plan.steady import Choice, steady_choice
from autoseg.plan.wishes import NO_WISH, Wish, wished_topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A network and patch that fit, and how they were found.

    Attributes:
        network: the network's shape.
        patch_size: voxels per axis.
        batch: patches per step, and what limited them.
        elements: feature map elements of a patch.
        max_elements: what a patch was shrunk to fit.
        first_patch: patch the search began with.
        num_steps: how often it was made smaller.
        estimate_bytes: what a training step takes at mixed precision.
        is_wished: whether the patch was given, not found.
    """

    network: NetworkSpec
    patch_size: Axes
    batch: Batch
    elements: int
    max_elements: float
    first_patch: Axes
    num_steps: int
    estimate_bytes: int
    is_wished: bool = False

    @property
    def batch_size(self) -> int:
        """Patches per step."""
        return self.batch.size


def fit(grid: Grid, limits: Limits, wish: Wish = NO_WISH) -> Fit:
    """Find the largest patch, its network and its batch.

    The search starts from as many voxels as a cube of 256 (a square of 2048) with the physical
    proportions of a cube, or the median case where that is smaller, and takes steps off the
    axis that covers the median case best until the reference's count of feature map elements
    fits, and the estimate in bytes if that rule is in force. What memory is then left goes into
    the batch.

    Args:
        grid: the data.
        limits: the kind of network, what goes in and out of it, and what it has to fit.
        wish: what is given. A patch is taken whether it fits or not; a batch has to fit.

    Returns:
        The outcome with the numbers that led to it.

    Raises:
        DataError: if the median case cannot be halved even once.
        AutosegError: if no patch is small enough for the budget, or the wished one impossible.
    """
    room = Room(grid=grid, limits=limits, wanted_batch=wish.batch_size)
    if wish.patch_size is not None:
        candidate = _wished(grid, limits, wish)
        batch = room.batch(candidate, limits.budget_bytes)
        return _outcome(room, (candidate, batch), candidate, is_wished=True)
    patches = shrinking_patches(grid, limits.preset, limits.num_entries)
    if wish.batch_size is None and "steady growth" in limits.rules:
        choice = steady_choice(room, patches)
    else:
        choice = _plain_choice(room, patches)
    if choice is None:
        raise _too_little(room, patches)
    return _outcome(room, choice, patches[0])


def _plain_choice(room: Room, patches: ShrinkingPatches) -> Choice | None:
    budget = room.limits.budget_bytes
    index = patches.first_that_fits(room, budget)
    return None if index is None else (patches[index], room.batch(patches[index], budget))


def _wished(grid: Grid, limits: Limits, wish: Wish) -> Candidate:
    """The patch a user gave, with the network given for it or derived."""
    patch = wish.patch_size
    if patch is not None and wish.network is not None:
        elements = feature_map_elements(wish.network, patch, limits.num_entries)
        return Candidate(network=wish.network, patch_size=patch, elements=elements)
    topology = wished_topology(grid.spacing, wish)
    network, elements = weigh(topology, limits.preset, limits.num_entries)
    return Candidate(network=network, patch_size=topology.patch_size, elements=elements)


def _outcome(room: Room, choice: Choice, first: Candidate, *, is_wished: bool = False) -> Fit:
    candidate, batch = choice
    return Fit(
        network=candidate.network,
        patch_size=candidate.patch_size,
        batch=batch,
        elements=candidate.elements,
        max_elements=room.max_elements(room.limits.budget_bytes),
        first_patch=first.patch_size,
        num_steps=candidate.num_steps,
        estimate_bytes=room.estimate_bytes(candidate, batch.size),
        is_wished=is_wished,
    )


def _too_little(room: Room, patches: ShrinkingPatches) -> AutosegError:
    need = min(room.need_bytes(candidate) for candidate in patches) / GIGABYTE
    with_batch = "" if room.wanted_batch is None else f" with a batch of {room.wanted_batch}"
    # Rounded up, so that what the message names will do.
    enough = ceil(need * 100) / 100
    smaller = "fewer --base-features" if room.wanted_batch is None else "a smaller --batch-size"
    return AutosegError(
        f"the smallest network for these images{with_batch} needs {enough:g} GB",
        place=f"--gpu-memory {room.limits.budget_bytes / GIGABYTE:g}GB",
        remedy=f"plan for that much or more, or with {smaller}",
    )
