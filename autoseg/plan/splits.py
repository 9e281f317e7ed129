"""Who trains and who is held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.dataset import Split, Splits
from autoseg.errors import DataError

SHUFFLE_SEED = 12345


def make_splits(names: Sequence[str], num_folds: int = 5) -> Splits:
    """Divide cases into folds for cross-validation.

    Every case is held out once. The folds are those of nnU-Net for the same names, so that
    cross-validation results compare.

    Args:
        names: the cases, in any order.
        num_folds: number of folds, at least 2; fewer where there are fewer cases.

    Returns:
        One split per fold, names sorted.

    Raises:
        DataError: if there are fewer than two cases.
        ValueError: if names repeat or fewer than two folds are wanted.
    """
    if num_folds < 2:
        raise ValueError(f"cross-validation needs at least two folds, got {num_folds}")
    if len(set(names)) != len(names):
        raise ValueError("case names must differ")
    if len(names) < 2:
        raise DataError(
            f"{len(names)} annotated case{'' if len(names) == 1 else 's'}, but a fold needs one "
            "case to train with and one to hold out",
            remedy="annotate more cases",
        )
    ordered = sorted(names)
    held_out = _held_out(len(ordered), min(num_folds, len(ordered)))
    folds = tuple(
        Split(
            train=tuple(name for i, name in enumerate(ordered) if i not in fold),
            validation=tuple(name for i, name in enumerate(ordered) if i in fold),
        )
        for fold in held_out
    )
    return Splits(folds=folds, reason=_reason(len(ordered), num_folds))


def _held_out(num_cases: int, num_folds: int) -> list[set[int]]:
    """Indices held out by each fold."""
    # The legacy generator: its sequence is fixed for good and is what published folds used.
    order = np.arange(num_cases)
    np.random.RandomState(SHUFFLE_SEED).shuffle(order)
    return [set(map(int, part)) for part in np.array_split(order, num_folds)]


def _reason(num_cases: int, num_folds: int) -> str:
    if num_cases < num_folds:
        return (
            f"{num_cases} folds instead of {num_folds}, because there are only {num_cases} cases; "
            "each holds out a single case"
        )
    return (
        f"{num_cases} cases, sorted by name, shuffled with seed {SHUFFLE_SEED} and dealt into "
        f"{num_folds} folds"
    )
