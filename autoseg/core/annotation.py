"""Partial labels: which structures a case is annotated for, as labels and networks count them.

``annotated`` is always ``Case.annotated``: names of structures, or None for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autoseg.core.dataset import Case
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.words import counted

MOST_NAMED = 6


def is_annotated(case: Case, structure: str) -> bool:
    """Whether a case is annotated for a structure."""
    return case.annotated is None or structure in case.annotated


def left_out(labels: LabelSpace, annotated: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the structures a case is not annotated for, in declared order."""
    if annotated is None:
        return ()
    return tuple(name for name in labels.names if name not in annotated)


def annotated_indices(labels: LabelSpace, annotated: Sequence[str] | None) -> frozenset[int]:
    """Indices from 1 that the label map of a case may hold.

    A value of several regions may be there as long as one of them is annotated.
    """
    known: Iterable[Structure] = labels.structures
    if annotated is not None:
        known = (structure for structure in known if structure.name in annotated)
    return frozenset(index for structure in known for index in labels.indices_of(structure))


def known_outputs(labels: LabelSpace, annotated: Sequence[str] | None) -> tuple[bool, ...]:
    """Which outputs of a network the label map of a case tells about.

    Args:
        labels: what is segmented.
        annotated: names of the structures the case is annotated for; None for all.

    Returns:
        ``num_outputs`` values: one per structure where they are regions, else one per index,
        of which the background is always known.
    """
    if labels.has_regions:
        return tuple(annotated is None or name in annotated for name in labels.names)
    known = annotated_indices(labels, annotated)
    return (True, *(index in known for index in range(1, labels.num_classes)))


def partly_annotated(cases: Iterable[Case]) -> dict[str, tuple[str, ...]]:
    """What is annotated in the cases that are not annotated for all structures, by their names."""
    return {case.name: case.annotated for case in cases if case.annotated is not None}


def in_words(cases: Sequence[Case], labels: LabelSpace, noun: str = "case") -> str | None:
    """How many cases are annotated for each structure.

    Args:
        cases: at least one.
        labels: what is segmented.
        noun: what the cases are called.

    Returns:
        Such as ``"liver in 40 of 60 cases, kidney in 25"``, with the structures that are not
        annotated everywhere, fewest cases first; None if there is none.
    """
    counts = {name: sum(is_annotated(case, name) for case in cases) for name in labels.names}
    partial = sorted((count, name) for name, count in counts.items() if count < len(cases))
    if not partial:
        return None
    (count, name), *others = partial
    told = [f"{name} in {count} of {counted(len(cases), noun)}"]
    told += [f"{name} in {count}" for count, name in others[: MOST_NAMED - 1]]
    more = len(partial) - len(told)
    return ", ".join(told) + (f" and {more} more structures in more of them" if more else "")
