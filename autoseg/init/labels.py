"""Label values, and names where there are any -> a label space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError

MOST_VALUES = 1000
"""More values than this are intensities, not labels."""

_IGNORE, _BACKGROUND = "ignore", "background"
_LIKELY_IGNORE = 255

Segments = frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLook:
    """What one label map holds.

    Attributes:
        voxels: number of voxels of each value.
        border: number of voxels of each value on the faces of the volume.
        segments: number of voxels of each set of named segments that cover some together; None
            if the file knows no names.
        stored: value each segment has in the file.
        is_rounded: whether the file holds fractions.
    """

    voxels: Mapping[int, int]
    border: Mapping[int, int]
    segments: Mapping[Segments, int] | None = None
    stored: Mapping[str, int] | None = None
    is_rounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLabels:
    """The labels of a data set.

    Attributes:
        space: what the values mean.
        presence: in how many cases each structure has a voxel.
        remarks: what had to be supposed, in sentences.
    """

    space: LabelSpace
    presence: Mapping[str, int]
    remarks: tuple[str, ...]


def find_labels(looks: Sequence[LabelLook], names: Mapping[int, str]) -> FoundLabels:
    """Find out what the values of label maps mean.

    Args:
        looks: what each label map holds.
        names: of values, as far as they are known.

    Returns:
        Named segments by their names; values without a name are ``structure_<value>``, a single
        one ``foreground``.

    Raises:
        DataError: if there is no structure, or there are too many values for labels.
    """
    named = [look for look in looks if look.segments is not None]
    if named and len(named) == len(looks):
        return _of_segments(named)
    stored = {v: n for look in named for n, v in (look.stored or {}).items()}
    found = _of_values(looks, {**stored, **names})
    if not named:
        return found
    mixed = (
        f"{len(named)} label maps name their segments and {len(looks) - len(named)} only number "
        "them: see that their numbers mean the same"
    )
    return replace(found, remarks=(*found.remarks, mixed))


# Values


def _of_values(looks: Sequence[LabelLook], names: Mapping[int, str]) -> FoundLabels:
    values = {value for look in looks for value in look.voxels}
    if len(values) > MOST_VALUES:
        raise DataError(f"{len(values)} label values, which are rather intensities")
    background = 0 if 0 in values else _most_frequent(look.border for look in looks)
    remarks: list[str] = []
    if background:
        remarks.append(
            f"no label map holds 0: {background}, the most frequent value at the borders of the "
            "images, is taken for the background"
        )
    ignore = next((v for v, name in names.items() if name.casefold() == _IGNORE), None)
    foreground = sorted(values - {background, ignore})
    if not foreground:
        raise DataError(f"the label maps hold nothing but {background}")
    if ignore is None and _looks_ignored(foreground):
        remarks.append(
            f"{_LIKELY_IGNORE} is taken for a structure; if it marks voxels nobody annotated, "
            f"name it '{_IGNORE}' in the description"
        )
    structures = _structures(foreground, names)
    return FoundLabels(
        space=LabelSpace(structures=structures, background=background, ignore=ignore),
        presence={
            s.name: sum(look.voxels.get(s.values[0], 0) > 0 for look in looks) for s in structures
        },
        remarks=tuple(remarks),
    )


def _most_frequent(counts: Iterable[Mapping[int, int]]) -> int:
    total: Counter[int] = Counter()
    for count in counts:
        total.update(count)
    return min(total, key=lambda value: (-total[value], value))


def _looks_ignored(foreground: Sequence[int]) -> bool:
    return foreground[-1] == _LIKELY_IGNORE and 1 < len(foreground) < _LIKELY_IGNORE


def _structures(values: Sequence[int], names: Mapping[int, str]) -> tuple[Structure, ...]:
    only = "foreground" if len(values) == 1 else None
    chosen = [names.get(value) or only or f"structure_{value}" for value in values]
    counts = Counter(name.casefold() for name in chosen)
    taken = (_BACKGROUND, _IGNORE)
    return tuple(
        Structure(
            name=f"{name}_{v}" if counts[name.casefold()] > 1 or name.casefold() in taken else name,
            values=(v,),
        )
        for v, name in zip(values, chosen, strict=True)
    )


# Named segments


def _of_segments(looks: Sequence[LabelLook]) -> FoundLabels:
    spellings: dict[str, str] = {}
    total: Counter[Segments] = Counter()
    for look in looks:
        for segments, count in (look.segments or {}).items():
            total[_spelled(segments, spellings)] += count
        # Also those without a voxel: a file that names them is read with their declaration.
        for name in look.stored or {}:
            total[_spelled(frozenset((name,)), spellings)] += 0
    sets = sorted((s for s in total if s), key=lambda s: (len(s), sorted(s)))
    if not any(total[s] for s in sets):
        raise DataError("no segment of the label maps has a voxel")
    values = _values_of_sets(sets, looks)
    ignore = next((values[s] for s in sets if {n.casefold() for n in s} == {_IGNORE}), None)
    size = Counter({name: sum(total[s] for s in sets if name in s) for name in spellings.values()})
    # Large structures first: where regions overlap, the later one is written.
    names = sorted((n for n in size if n.casefold() != _IGNORE), key=lambda n: -size[n])
    structures = tuple(
        Structure(name=name, values=tuple(sorted(values[s] for s in sets if name in s)))
        for name in names
    )
    overlap = any(len(s) > 1 for s in sets)
    outputs = tuple(min((len(s), values[s]) for s in sets if n in s)[1] for n in names)
    return FoundLabels(
        space=LabelSpace(
            structures=structures, ignore=ignore, output_values=outputs if overlap else None
        ),
        presence={name: sum(_holds(look, name) for look in looks) for name in names},
        remarks=("segments overlap: each structure is a region",) if overlap else (),
    )


def _spelled(segments: Segments, spellings: dict[str, str]) -> Segments:
    """Segments spelled as the first file does, that of the background left out."""
    names = [name.strip() for name in segments if name.strip().casefold() != _BACKGROUND]
    return frozenset(spellings.setdefault(name.casefold(), name) for name in names)


def _values_of_sets(sets: Sequence[Segments], looks: Sequence[LabelLook]) -> Mapping[Segments, int]:
    """The values the files store, if all agree and nothing overlaps; else 1, 2, ..."""
    stored = [(n.strip().casefold(), v) for look in looks for n, v in (look.stored or {}).items()]
    by_name = dict(stored)
    agree = len(set(stored)) == len(by_name) == len(set(by_name.values()))
    if agree and 0 not in by_name.values() and all(len(s) == 1 for s in sets):
        return {s: by_name[next(iter(s)).casefold()] for s in sets}
    return {s: number for number, s in enumerate(sets, start=1)}


def _holds(look: LabelLook, name: str) -> bool:
    sets = [
        {n.strip().casefold() for n in s} for s, count in (look.segments or {}).items() if count
    ]
    return any(name.casefold() in s for s in sets)
