"""Who trains and who is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.dataset import Dataset, Split, Splits
from autoseg.core.fingerprint import Fingerprint
from autoseg.errors import DataError
from autoseg.plan.dealing import Bools, Gap, Ints, deal_everywhere, gaps
from autoseg.plan.reasons import listing

SHUFFLE_SEED = 12345
NUM_SHUFFLES = 20
"""Tried where no exchange of groups puts every structure everywhere."""
MOST_NAMED = 3
_FOLDS_CAME_FROM = {
    "nnunet": "splits_final.json",
    "table": "the column 'split' of the table of cases",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCase:
    """What the folds depend on.

    Attributes:
        name: the case.
        group: what must not be divided; None for a case on its own.
        structures: names of the structures that are in it.
        annotated: names of the structures that are, or would be, marked in it; None for all.
    """

    name: str
    group: str | None = None
    structures: frozenset[str] = frozenset()
    annotated: frozenset[str] | None = None


def splits_of(dataset: Dataset, fingerprint: Fingerprint) -> Splits:
    """The folds of a measured data set: those it came with, or new ones.

    Args:
        dataset: the cases.
        fingerprint: says which structures are in which case.

    Returns:
        The folds, with the reason.

    Raises:
        DataError: if the data set's own folds leave nothing to train with or to hold out.
    """
    if dataset.folds is not None:
        source = _FOLDS_CAME_FROM.get(dataset.layout, "the data set")
        return take_over(dataset.folds, [case.name for case in dataset.cases], source)
    labels = dataset.labels
    voxels = {case.name: case.label_voxels for case in fingerprint.cases}
    return make_splits(
        [
            SplitCase(
                name=case.name,
                group=case.group,
                structures=frozenset(
                    structure.name
                    for structure in labels.structures
                    if any(voxels[case.name][i - 1] for i in labels.indices_of(structure))
                ),
                annotated=None if case.annotated is None else frozenset(case.annotated),
            )
            for case in dataset.cases
        ]
    )


def take_over(folds: Sequence[Split], names: Sequence[str], source: str) -> Splits:
    """Folds the data came with, as they are, without cases that are left out.

    Args:
        folds: as the data set states them.
        names: the cases there are.
        source: where the data set states them.

    Raises:
        DataError: if a fold then has nothing to train with or to hold out.
    """
    known = set(names)
    kept = [
        Split(
            train=tuple(name for name in fold.train if name in known),
            validation=tuple(name for name in fold.validation if name in known),
        )
        for fold in folds
    ]
    for number, fold in enumerate(kept):
        if not fold.train or not fold.validation:
            raise DataError(
                f"fold {number} has no case to {'hold out' if fold.train else 'train with'}",
                place=source,
                remedy="correct it, or take it away to have folds dealt",
            )
    gone = {name for fold in folds for name in (*fold.train, *fold.validation)} - known
    left_out = "1 case that is" if len(gone) == 1 else f"{len(gone)} cases that are"
    without = f", without {left_out} left out" if gone else ""
    return Splits.dealt(kept, f"taken over from {source}{without}")


def make_splits(cases: Sequence[SplitCase], num_folds: int = 5) -> Splits:
    """Divide cases into folds for cross-validation.

    Every case is held out once, and no group is divided. The folds are those of nnU-Net for
    the same names if every case is a group of its own, so that cross-validation results
    compare. Only where a structure would then be missing from a part of a fold although it is
    in enough groups, groups change places. Where a structure is in too few for that, the cases
    that are annotated for it are dealt likewise: they show where it is not.

    Args:
        cases: in any order.
        num_folds: number of folds, at least 2; fewer where there are fewer groups.

    Returns:
        One split per fold, names sorted; none if there is only one group.

    Raises:
        ValueError: if names repeat or fewer than two folds are wanted.
    """
    if num_folds < 2:
        raise ValueError(f"cross-validation needs at least two folds, got {num_folds}")
    if len({case.name for case in cases}) != len(cases):
        raise ValueError("case names must differ")
    groups = _groups(cases)
    if len(groups) < 2:
        return Splits.dealt((), _why_none(len(cases)))
    count = min(num_folds, len(groups))
    sizes = np.array([len(group) for group in groups])
    structures, presence = _what_is_where(groups, count)
    seeds = range(SHUFFLE_SEED, SHUFFLE_SEED + NUM_SHUFFLES)
    first, fold_of = deal_everywhere(sizes, presence, count, seeds)
    reason = (
        _how(groups, num_folds)
        + _why_exchanged(_moved(groups, first, fold_of), gaps(first, presence, count), structures)
        + _what_is_rare(presence, structures, count)
        + _what_lacks(gaps(fold_of, presence, count), structures)
    )
    return Splits.dealt(_folds(groups, fold_of, count), reason)


def _groups(cases: Sequence[SplitCase]) -> list[list[SplitCase]]:
    """Cases that stay together, sorted by name; a case without a group is one of its own."""
    groups: dict[tuple[bool, str], list[SplitCase]] = {}
    for case in sorted(cases, key=lambda case: case.name):
        key = (False, case.name) if case.group is None else (True, case.group)
        groups.setdefault(key, []).append(case)
    return list(groups.values())


def _what_is_where(groups: Sequence[Sequence[SplitCase]], count: int) -> tuple[list[str], Bools]:
    """What every part of a fold should have, in words, and which group has it.

    These are the structures, and the annotation of those that are in fewer groups than folds
    and not annotated everywhere. Where one that is in more is seen, it is annotated.
    """
    cases = [case for group in groups for case in group]
    names = sorted({name for case in cases for name in case.structures})
    presence = _presence(groups, names)
    num_groups = dict(zip(names, presence.sum(axis=0).tolist(), strict=True))
    listed = {name for case in cases for name in case.annotated or ()}
    titles, columns = [f"'{name}'" for name in names], list(presence.T)
    for name in sorted({*names, *listed}):
        shows = np.array([any(_shows(case, name) for case in group) for group in groups])
        if num_groups.get(name, 0) < min(count, int(shows.sum())) and not shows.all():
            titles.append(f"annotated '{name}'")
            columns.append(shows)
    return titles, np.array(columns, dtype=np.bool_).reshape(-1, len(groups)).T


def _shows(case: SplitCase, structure: str) -> bool:
    """Whether a case says where a structure is and where it is not."""
    return case.annotated is None or structure in case.annotated


def _presence(groups: Sequence[Sequence[SplitCase]], structures: Sequence[str]) -> Bools:
    """Whether a structure is in a group, ``(groups, structures)``."""
    found = np.zeros((len(groups), len(structures)), dtype=np.bool_)
    for row, group in zip(found, groups, strict=True):
        inside = frozenset[str]().union(*(case.structures for case in group))
        row[:] = [structure in inside for structure in structures]
    return found


def _folds(groups: Sequence[Sequence[SplitCase]], fold_of: Ints, count: int) -> list[Split]:
    held_out = {
        case.name: int(fold) for group, fold in zip(groups, fold_of, strict=True) for case in group
    }
    return [
        Split(
            train=tuple(name for name in sorted(held_out) if held_out[name] != fold),
            validation=tuple(name for name in sorted(held_out) if held_out[name] == fold),
        )
        for fold in range(count)
    ]


def _why_none(num_cases: int) -> str:
    if num_cases == 1:
        return "a single case, of which none can be held out"
    return f"all {num_cases} cases are of one group, of which none can be held out"


def _how(groups: Sequence[Sequence[SplitCase]], num_folds: int) -> str:
    num_cases = sum(map(len, groups))
    is_grouped = num_cases > len(groups)
    cases = f"{num_cases} cases"
    if len(groups) < num_folds:
        what, one = ("groups of cases", "group") if is_grouped else ("cases", "case")
        return (
            f"{len(groups)} folds instead of {num_folds}, because there are only {len(groups)} "
            f"{what}; each holds out a single {one}"
        )
    if is_grouped:
        return (
            f"{cases} in {len(groups)} groups, none of them divided, shuffled with seed "
            f"{SHUFFLE_SEED} and dealt into {num_folds} folds of about equally many cases"
        )
    return (
        f"{cases}, sorted by name, shuffled with seed {SHUFFLE_SEED} and dealt into {num_folds} "
        "folds"
    )


def _moved(groups: Sequence[Sequence[SplitCase]], first: Ints, fold_of: Ints) -> str | None:
    """How much changed folds."""
    moved = int((first != fold_of).sum())
    if not moved:
        return None
    return f"{moved} {'cases' if all(len(group) == 1 for group in groups) else 'groups'}"


def _why_exchanged(moved: str | None, needed: Sequence[Gap], structures: Sequence[str]) -> str:
    """What made it necessary to change the folds as dealt; empty if nothing did."""
    if moved is None:
        return ""
    gap = needed[0]
    verb = "trained without" if gap.part == "train" else "held out no"
    others = sorted({structures[g.structure] for g in needed} - {structures[gap.structure]})
    also = f", and likewise {_named(others)}" if others else ""
    return (
        f"; {moved} then changed folds, because fold {gap.fold} would have {verb} "
        f"{structures[gap.structure]}{also}"
    )


def _what_is_rare(presence: Bools, structures: Sequence[str], count: int) -> str:
    num_groups = presence.sum(axis=0).tolist()
    rare = [name for name, n in zip(structures, num_groups, strict=True) if n < count]
    if not rare:
        return ""
    return f"; {_named(rare)} {_is(rare)} in too few cases for every fold to hold one out"


def _what_lacks(left: Sequence[Gap], structures: Sequence[str]) -> str:
    names = sorted({structures[gap.structure] for gap in left})
    if not names:
        return ""
    return f"; {_named(names)} {_is(names)} still missing from a part of a fold: no exchange helps"


def _named(structures: Sequence[str]) -> str:
    shown = list(structures[:MOST_NAMED])
    more = len(structures) - MOST_NAMED
    return listing([*shown, f"{more} more"] if more > 0 else shown)


def _is(structures: Sequence[str]) -> str:
    return "is" if len(structures) == 1 else "are"
