"""What goes in and comes out of a network, by name, and how two networks' ends correspond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Configuration

BACKGROUND = "(background)"
"""Name of the output that means no structure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Inputs and outputs of a network, in order.

    Attributes:
        channels: of the images.
        predicted: what each channel that a cascade adds tells, by the structures it belongs to.
        outputs: structures, after ``BACKGROUND`` where they exclude each other.
        overlapping: whether structures may overlap, so that each has an output of its own kind.
    """

    channels: tuple[str, ...]
    predicted: tuple[str, ...]
    outputs: tuple[str, ...]
    overlapping: bool

    @property
    def num_inputs(self) -> int:
        """Channels of the input: those of the images, then those a cascade adds."""
        return len(self.channels) + len(self.predicted)


def ends_of(configuration: Configuration, channels: Sequence[str], labels: LabelSpace) -> Ends:
    """The ends of a configuration's network.

    Args:
        configuration: as planned.
        channels: names of the images' channels, in order.
        labels: what is segmented.
    """
    classes = tuple(_told_by(labels, value) for value in labels.foreground_values)
    return Ends(
        channels=tuple(channels),
        predicted=() if configuration.previous is None else classes,
        outputs=labels.names if labels.has_regions else (BACKGROUND, *classes),
        overlapping=labels.has_regions,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How the names on one side correspond to those on the other.

    Attributes:
        wanted: names on the side to be filled, in order.
        known: names on the side that fills.
        pairs: positions that correspond, ``(wanted, known)``.
    """

    wanted: tuple[str, ...]
    known: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def found(self) -> tuple[str, ...]:
        """Wanted names that are known."""
        return tuple(self.wanted[position] for position, _ in self.pairs)

    @property
    def new(self) -> tuple[str, ...]:
        """Wanted names that are not known."""
        found = {position for position, _ in self.pairs}
        return tuple(name for position, name in enumerate(self.wanted) if position not in found)

    @property
    def unused(self) -> tuple[str, ...]:
        """Known names that nobody wants."""
        used = {position for _, position in self.pairs}
        return tuple(name for position, name in enumerate(self.known) if position not in used)

    @property
    def renamed(self) -> tuple[tuple[str, str], ...]:
        """Pairs that correspond by their place, not by name, ``(wanted, known)``."""
        names = ((self.wanted[i], self.known[j]) for i, j in self.pairs)
        return tuple((one, other) for one, other in names if _folded(one) != _folded(other))


def match_names(wanted: Sequence[str], known: Sequence[str]) -> Match:
    """Pair names that are equal, or equal but for case and surrounding blanks.

    Names that differ in nothing else on one side have to be equal.

    Args:
        wanted: names to be found.
        known: names there are.
    """
    exact = {name: position for position, name in enumerate(known)}
    folded = {_folded(name): position for position, name in enumerate(known)}
    counts = [Counter(map(_folded, names)) for names in (wanted, known)]
    pairs: list[tuple[int, int]] = []
    for position, name in enumerate(wanted):
        found = exact.get(name)
        if found is None and all(count[_folded(name)] == 1 for count in counts):
            found = folded[_folded(name)]
        if found is not None:
            pairs.append((position, found))
    return Match(wanted=tuple(wanted), known=tuple(known), pairs=tuple(pairs))


def match_channels(wanted: Sequence[str], known: Sequence[str]) -> Match:
    """Pair channels by name; a single channel takes the place of a single other one."""
    match = match_names(wanted, known)
    if len(wanted) == len(known) == 1 and not match.pairs:
        return Match(wanted=match.wanted, known=match.known, pairs=((0, 0),))
    return match


@dataclass(frozen=True, slots=True, kw_only=True)
class EndsMatch:
    """How the ends of one network correspond to those of another.

    Attributes:
        channels: of the images.
        predicted: channels that a cascade adds.
        outputs: structures and background.
        is_same_kind: whether outputs mean the same on both sides: structures that exclude each
            other, or structures that may overlap.
    """

    channels: Match
    predicted: Match
    outputs: Match
    is_same_kind: bool = True

    @property
    def input_pairs(self) -> tuple[tuple[int, int], ...]:
        """Input channels that correspond, ``(wanted, known)``."""
        wanted, known = len(self.channels.wanted), len(self.channels.known)
        added = ((wanted + i, known + j) for i, j in self.predicted.pairs)
        return (*self.channels.pairs, *added)


def match_ends(wanted: Ends, known: Ends) -> EndsMatch:
    """Pair inputs and outputs of two networks by name.

    Outputs of structures that overlap mean something else than those of structures that exclude
    each other: between the two kinds none is paired.
    """
    outputs = match_names(wanted.outputs, known.outputs)
    is_same_kind = wanted.overlapping == known.overlapping
    if not is_same_kind:
        outputs = Match(wanted=wanted.outputs, known=known.outputs, pairs=())
    return EndsMatch(
        channels=match_channels(wanted.channels, known.channels),
        predicted=match_names(wanted.predicted, known.predicted),
        outputs=outputs,
        is_same_kind=is_same_kind,
    )


def _told_by(labels: LabelSpace, value: int) -> str:
    """The structures a label value belongs to: one, or with regions several."""
    return " + ".join(s.name for s in labels.structures if value in s.values)


def _folded(name: str) -> str:
    return name.strip().casefold()
