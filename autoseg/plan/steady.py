"""Patch and batch such that more memory never gives fewer voxels per batch.

The largest patch that fits wins, and memory that is left goes into the batch. Where the patch
grows by a step, the batch falls, and by rounding it may fall by more than the patch grew. A
preset's own memory, which its limits were made for, is where published plans come from: there
the choice stays as it is. Above it, a smaller memory's choice is kept as long as it holds more
voxels. Below it, a batch stays so small that it holds no more than the next larger patch's.
"""

from __future__ import annotations

from dataclasses import replace

from autoseg.plan.presets import MIN_BATCH_SIZE
from autoseg.plan.room import Batch, Candidate, Room
from autoseg.plan.shrinking import ShrinkingPatches

Choice = tuple[Candidate, Batch]


def steady_choice(room: Room, patches: ShrinkingPatches) -> Choice | None:
    """Choose patch and batch for the memory of the limits.

    Args:
        room: says what fits.
        patches: from the largest down.

    Returns:
        The choice; None if no patch fits.
    """
    budget, anchor = room.limits.budget_bytes, room.limits.preset.budget_bytes
    here = patches.first_that_fits(room, budget)
    if here is None:
        return None
    if budget <= anchor:
        return _below(room, patches, here)
    return _above(room, patches, here)


def _above(room: Room, patches: ShrinkingPatches, here: int) -> Choice:
    """The choice with the most voxels of all memories from the preset's own to this one."""
    budget, anchor = room.limits.budget_bytes, room.limits.preset.budget_bytes
    best = patches[here], room.batch(patches[here], budget)
    largest = budget
    for index in range(here + 1, _index_at(room, patches, anchor) + 1):
        # Of all memories that lead to this patch, the largest has the largest batch.
        largest = min(largest, room.need_bytes(patches[index - 1]) - 1)
        if room.fits(patches[index], largest):
            other = patches[index], room.batch(patches[index], largest)
            best = max(best, other, key=_num_voxels)
    if best[0] is patches[here]:
        return best
    return best[0], replace(best[1], rule="steady growth")


def _below(room: Room, patches: ShrinkingPatches, here: int) -> Choice:
    """The choice of this memory, with no more voxels than the next larger patch begins with."""
    largest = room.limits.preset.budget_bytes
    most: int | None = None
    for index in range(_index_at(room, patches, largest), here):
        need = room.need_bytes(patches[index])
        if need <= largest:
            smallest = patches[index], room.batch(patches[index], need)
            most = _num_voxels(_capped(smallest, most))
            largest = need - 1
    choice = patches[here], room.batch(patches[here], room.limits.budget_bytes)
    return _capped(choice, most)


def _index_at(room: Room, patches: ShrinkingPatches, budget_bytes: int) -> int:
    """The patch for a memory; the smallest of all if none fits."""
    index = patches.first_that_fits(room, budget_bytes)
    return len(list(patches)) - 1 if index is None else index


def _capped(choice: Choice, most_voxels: int | None) -> Choice:
    candidate, batch = choice
    if most_voxels is None or _num_voxels(choice) <= most_voxels:
        return choice
    size = max(MIN_BATCH_SIZE, most_voxels // candidate.num_voxels)
    return candidate, replace(batch, size=size, rule="steady growth")


def _num_voxels(choice: Choice) -> int:
    candidate, batch = choice
    return candidate.num_voxels * batch.size
