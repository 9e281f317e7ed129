"""Voxels of structures, drawn once per case, for training patches to be centred on."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

MAX_POSITIONS = 10_000
"""Positions kept per structure, unless one in a hundred is more."""


def foreground_positions(
    labels: npt.NDArray[np.integer],
    indices_per_structure: Sequence[tuple[int, ...]],
    rng: np.random.Generator,
) -> list[Positions]:
    """Draw voxels of each structure, for patches to be centred on.

    Draws all voxels of a small structure, ``MAX_POSITIONS`` of a larger one, but at least one
    in a hundred.

    Args:
        labels: integer ``(z, y, x)``.
        indices_per_structure: the labels each structure is made of.
        rng: draws them.

    Returns:
        Per structure int64 indices into the flat labels, without repetition, in random order;
        none for a structure that is absent.
    """
    return [_draw_positions(labels, indices, rng) for indices in indices_per_structure]


def _draw_positions(
    labels: npt.NDArray[np.integer], indices: Sequence[int], rng: np.random.Generator
) -> Positions:
    counts = [np.count_nonzero(_members(plane, indices)) for plane in labels]
    ends = np.cumsum(counts)
    total = int(ends[-1])
    wanted = max(min(MAX_POSITIONS, total), ceil(0.01 * total))
    # Ranks are looked up plane by plane: listing all positions of a large structure would take
    # eight bytes for each of its voxels.
    ranks = rng.choice(total, wanted, replace=False) if total else np.empty(0, dtype=np.int64)
    order = np.argsort(ranks)
    cuts = np.searchsorted(ranks, ends, sorter=order)
    positions = np.empty(wanted, dtype=np.int64)
    for plane, chosen in enumerate(np.split(order, cuts[:-1])):
        if chosen.size:
            local = np.flatnonzero(_members(labels[plane], indices))
            first_rank = ends[plane] - counts[plane]
            positions[chosen] = local[ranks[chosen] - first_rank] + plane * labels[plane].size
    return positions


def _members(plane: npt.NDArray[np.integer], indices: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Where a plane belongs to a structure."""
    member = plane == indices[0]
    for index in indices[1:]:
        member |= plane == index
    return member
