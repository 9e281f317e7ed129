"""Groups of cases dealt into folds: evenly, and so that every structure is where it is needed.

Arrays: ``sizes`` int ``(groups,)``, cases per group; ``presence`` bool ``(groups, structures)``;
``fold_of`` int ``(groups,)``, the fold that holds a group out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A structure that a fold lacks although it is in enough groups.

    Attributes:
        structure: its column in ``presence``.
        fold: number of the fold.
        part: which of its parts lacks it.
    """

    structure: int
    fold: int
    part: Literal["train", "validation"]


def deal_even(sizes: Ints, num_folds: int, seed: int) -> Ints:
    """Shuffle groups and deal them so that folds hold out equally many cases.

    Args:
        sizes: cases per group, at least ``num_folds`` groups.
        num_folds: number of folds.
        seed: of the shuffle.

    Returns:
        The fold of each group. For groups of one size these are the folds of scikit-learn's
        ``KFold``, which nnU-Net uses.
    """
    # The legacy generator: its sequence is fixed for good and is what published folds used.
    order = np.arange(len(sizes))
    np.random.RandomState(seed).shuffle(order)
    fold_of = np.zeros(len(sizes), dtype=np.int64)
    if len(set(sizes.tolist())) == 1:
        for fold, part in enumerate(np.array_split(order, num_folds)):
            fold_of[part] = fold
        return fold_of
    totals = np.zeros(num_folds, dtype=np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = np.argmin(totals)
        totals[fold_of[group]] += sizes[group]
    return _level(fold_of, sizes, num_folds)


def _level(fold_of: Ints, sizes: Ints, num_folds: int) -> Ints:
    """Move or exchange groups between folds as long as that makes them more even."""
    while True:
        totals = np.bincount(fold_of, weights=sizes, minlength=num_folds)
        pairs = [
            (larger, smaller)
            for larger in range(num_folds)
            for smaller in range(num_folds)
            if totals[larger] - totals[smaller] > 1
        ]
        moves = [move for pair in pairs for move in _moves(fold_of, sizes, *pair)]
        if not moves:
            return fold_of
        _, group, back, (larger, smaller) = min(moves)
        fold_of = fold_of.copy()
        fold_of[group] = smaller
        if back >= 0:
            fold_of[back] = larger


def _moves(
    fold_of: Ints, sizes: Ints, larger: int, smaller: int
) -> list[tuple[int, int, int, tuple[int, int]]]:
    """Ways to make two folds more even: what is left uneven, group there, group back or -1."""
    gap = int(sizes[fold_of == larger].sum() - sizes[fold_of == smaller].sum())
    moves: list[tuple[int, int, int, tuple[int, int]]] = []
    for group in _one_of_each_size(fold_of == larger, sizes):
        for back in (-1, *_one_of_each_size(fold_of == smaller, sizes)):
            shifted = int(sizes[group]) - (0 if back < 0 else int(sizes[back]))
            if 0 < shifted < gap:
                moves.append((abs(gap - 2 * shifted) - gap, group, back, (larger, smaller)))
    return moves


def _one_of_each_size(chosen: Bools, sizes: Ints) -> list[int]:
    """The first group of each size among those chosen."""
    groups = np.flatnonzero(chosen)
    return groups[np.unique(sizes[groups], return_index=True)[1]].tolist()


def gaps(fold_of: Ints, presence: Bools, num_folds: int) -> list[Gap]:
    """Where a structure lacks although it is in enough groups.

    Two groups are enough for every fold to train with a structure, as many as there are folds
    for every fold to hold one out.
    """
    held = _held_out(fold_of, presence, num_folds) > 0
    num_groups = presence.sum(axis=0)
    found: list[Gap] = []
    for structure in range(presence.shape[1]):
        folds = np.flatnonzero(held[:, structure]).tolist()
        if num_groups[structure] >= 2 and len(folds) == 1:
            found.append(Gap(structure=structure, fold=folds[0], part="train"))
        if num_groups[structure] >= num_folds:
            found += [
                Gap(structure=structure, fold=fold, part="validation")
                for fold in range(num_folds)
                if fold not in folds
            ]
    return found


def deal_everywhere(
    sizes: Ints, presence: Bools, num_folds: int, seeds: Sequence[int]
) -> tuple[Ints, Ints]:
    """Deal groups evenly, and exchange some where a fold would lack a structure.

    Args:
        sizes: cases per group.
        presence: structures per group.
        num_folds: number of folds.
        seeds: of the shuffles to start from; the first that leads to no gap is taken.

    Returns:
        The folds of the first shuffle as dealt, and those after the exchanges: the same if
        nothing lacked. With the fewest gaps if some cannot be closed.
    """
    first = deal_even(sizes, num_folds, seeds[0])
    best = _close_gaps(first, sizes, presence, num_folds)
    for seed in seeds[1:]:
        if not gaps(best, presence, num_folds):
            break
        other = deal_even(sizes, num_folds, seed)
        other = _close_gaps(other, sizes, presence, num_folds)
        best = min(best, other, key=lambda fold_of: len(gaps(fold_of, presence, num_folds)))
    return first, best


def _held_out(fold_of: Ints, presence: Bools, num_folds: int) -> Ints:
    """Groups with each structure that each fold holds out, ``(folds, structures)``."""
    counts = np.zeros((num_folds, presence.shape[1]), dtype=np.int64)
    np.add.at(counts, fold_of, presence)
    return counts


def _wanted(presence: Bools, num_folds: int) -> Ints:
    """In how many folds each structure must be held out so that there is no gap."""
    num_groups = presence.sum(axis=0)
    return np.where(num_groups >= num_folds, num_folds, np.minimum(num_groups, 2))


def _close_gaps(fold_of: Ints, sizes: Ints, presence: Bools, num_folds: int) -> Ints:
    """Exchange two groups at a time as long as fewer folds lack a structure then."""
    wanted = _wanted(presence, num_folds)
    while True:
        held = _held_out(fold_of, presence, num_folds)
        lacking = wanted > (held > 0).sum(axis=0)
        if not lacking.any():
            return fold_of
        exchanges = [
            _best_exchange(fold_of, sizes, presence, held, group)
            for group in np.flatnonzero(presence[:, lacking].any(axis=1)).tolist()
        ]
        num_lacking = int((wanted - (held > 0).sum(axis=0)).clip(0).sum())
        left, _, group, partner = min(exchanges)
        if left >= num_lacking:
            return fold_of
        fold_of = fold_of.copy()
        fold_of[[group, partner]] = fold_of[[partner, group]]


def _best_exchange(
    fold_of: Ints, sizes: Ints, presence: Bools, held: Ints, group: int
) -> tuple[int, int, int, int]:
    """The best exchange of a group: what then lacks, unevenness, the group, its partner."""
    num_folds = len(held)
    wanted = _wanted(presence, num_folds)
    here = int(fold_of[group])
    partners = np.flatnonzero(fold_of != here)
    change = presence[partners].astype(np.int64) - presence[group]
    there = fold_of[partners]
    num_folds_with = (
        (held > 0).sum(axis=0)
        - (held[here] > 0)
        - (held[there] > 0)
        + (held[here] + change > 0)
        + (held[there] - change > 0)
    )
    lacking = (wanted - num_folds_with).clip(0).sum(axis=1)
    totals = np.bincount(fold_of, weights=sizes, minlength=num_folds).astype(np.int64)
    shifted = sizes[partners] - sizes[group]
    uneven = (totals[here] + shifted) ** 2 + (totals[there] - shifted) ** 2
    uneven += (totals**2).sum() - totals[here] ** 2 - totals[there] ** 2
    best = np.lexsort((uneven, lacking))[0]
    return int(lacking[best]), int(uneven[best]), group, int(partners[best])
