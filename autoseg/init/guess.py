"""Names of files -> cases, channels, and what is left over.

No file is opened: paths go in, and every path that goes in comes out, as part of a case or
among what is left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.patients import patients_of
from autoseg.init.matching import Matching, Pair, match
from autoseg.init.names import (
    ImageFile,
    NamedFile,
    Reading,
    case_name,
    read_name,
    telling_folders,
)
from autoseg.init.words import channel_name, channel_rank, words_of

MOST_WORDS = 16
"""Words tried as the mark of label maps where no usual one occurs."""

UNNAMED_CHANNEL = "image"

_Column = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessedCase:
    """An image and its label map.

    Attributes:
        name: of the case.
        images: one file per channel.
        label: the label map.
        group: the patient, if the names show one with several cases.
    """

    name: str
    images: tuple[Path, ...]
    label: Path
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Files that are in no case, and why.

    Attributes:
        why: in a few words, plural.
        files: their paths, sorted.
    """

    why: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """What names tell about a folder.

    Attributes:
        cases: sorted by name.
        channels: a name for each file of a case, in order.
        marks: the word in the names that each channel was recognised by, empty if there is none.
        left_out: the files that are in no case.
        rivals: label maps that belong to the same case, for each such case.
    """

    cases: tuple[GuessedCase, ...]
    channels: tuple[str, ...]
    marks: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    rivals: tuple[tuple[Path, ...], ...]

    @property
    def num_files(self) -> int:
        """Number of files that are in a case."""
        return len(self.cases) * (len(self.channels) + 1)


def guess_cases(files: Sequence[ImageFile], label_words: Collection[str] = ()) -> Guess:
    """Find out which files are a case.

    Args:
        files: every image and label map of a folder.
        label_words: words that mark label maps besides the usual ones.

    Returns:
        The way of reading the names that leaves the fewest files over.
    """
    ignored, more = _words_of_all(files), frozenset(label_words)
    readings = [
        Reading(label_words=more, ignored=ignored),
        Reading(label_words=more, ignored=ignored, numbers_are_channels=True),
        Reading(label_words=more, ignored=ignored, words_are_channels=False),
    ]
    best: Guess | None = None
    for reading in readings:
        guess = _guess(files, reading)
        if best is None or len(guess.cases) > len(best.cases):
            best = guess
        if best.num_files == len(files):
            break
    assert best is not None
    return best


def words_to_try(files: Sequence[ImageFile]) -> dict[str, Path]:
    """Words that may mark the label maps of a folder where none of the usual ones does.

    Returns:
        For each word a file that has it, the words of most files first.
    """
    having: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        for word in {word for name in (*file.folders, file.stem) for word in words_of(name)}:
            having[word].append(file.path)
    most = [word for word in having if len(having[word]) * 2 <= len(files)]
    ordered = sorted(most, key=lambda word: (-len(having[word]), word))
    return {word: min(having[word]) for word in ordered[:MOST_WORDS]}


def _words_of_all(files: Sequence[ImageFile]) -> frozenset[str]:
    words = [
        {word for name in (*file.folders, file.stem) for word in words_of(name)} for file in files
    ]
    return frozenset(set.intersection(*words)) if len(words) > 1 else frozenset()


def _guess(files: Sequence[ImageFile], reading: Reading) -> Guess:
    matching = match([read_name(file, reading) for file in files])
    columns = _columns(matching.pairs)
    complete, left = _complete_cases(matching.pairs, columns)
    tested = [pair for pair, _ in complete if pair.label.split == "test"]
    if len(tested) < len(complete):
        complete = [(pair, images) for pair, images in complete if pair.label.split != "test"]
        left["images of annotated test cases, kept for evaluation"] = [
            f for p in tested for f, _ in p.images
        ]
        left["label maps of annotated test cases"] = [pair.label for pair in tested]
    names = _names([pair for pair, _ in complete], reading)
    groups = _groups([pair for pair, _ in complete], names, reading)
    cases = [
        GuessedCase(name=name, images=images, label=pair.label.file.path, group=groups.get(name))
        for (pair, images), name in zip(complete, names, strict=True)
    ]
    return Guess(
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        channels=_channel_names(columns),
        marks=tuple(mark or "_".join(more) for mark, more in columns),
        left_out=_left_out(matching, left),
        rivals=tuple(_paths(same) for same in matching.rivals),
    )


# Channels


def _columns(pairs: Sequence[Pair]) -> list[_Column]:
    """What tells the images of a case apart, in the order of the channels."""
    if all(len(pair.images) == 1 for pair in pairs):
        marks = {image.channel for pair in pairs for image, _ in pair.images}
        return [(marks.pop() if len(marks) == 1 else "", ())]
    counts = Counter(column for pair in pairs for column in set(_columns_of(pair)))
    common = [column for column, count in counts.items() if count * 2 >= len(pairs)]
    return sorted(common, key=_rank)


def _columns_of(pair: Pair) -> list[_Column]:
    channels = Counter(image.channel for image, _ in pair.images)
    return [
        (image.channel, more if channels[image.channel] > 1 else ()) for image, more in pair.images
    ]


def _rank(column: _Column) -> tuple[tuple[int, int, str], ...]:
    return tuple(channel_rank(word) for word in (column[0], *column[1]) if word)


def _channel_names(columns: Sequence[_Column]) -> tuple[str, ...]:
    if len(columns) == 1 and columns[0][0].isdigit():
        return (UNNAMED_CHANNEL,)
    names = [
        "_".join(channel_name(word) for word in (mark, *more) if word) or UNNAMED_CHANNEL
        for mark, more in columns
    ]
    counts = Counter(names)
    return tuple(
        name if counts[name] == 1 else f"{name}_{mark}"
        for name, (mark, _) in zip(names, columns, strict=True)
    )


def _complete_cases(
    pairs: Sequence[Pair], columns: Sequence[_Column]
) -> tuple[list[tuple[Pair, tuple[Path, ...]]], dict[str, list[NamedFile]]]:
    """Cases with exactly one file per channel, and the files of the others."""
    complete: list[tuple[Pair, tuple[Path, ...]]] = []
    left: dict[str, list[NamedFile]] = defaultdict(list)
    are_single = all(len(pair.images) == 1 for pair in pairs)
    for pair in pairs:
        found: dict[_Column, list[NamedFile]] = defaultdict(list)
        for (image, _), column in zip(pair.images, _columns_of(pair), strict=True):
            found[columns[0] if are_single else column].append(image)
        for column in set(found) - set(columns):
            left["images of a channel that most cases lack"] += found.pop(column)
        files = [file for same in found.values() for file in same]
        if any(len(found.get(column, ())) > 1 for column in columns):
            left["files of cases with two images of one channel"] += [*files, pair.label]
        elif not columns or any(column not in found for column in columns):
            left["files of cases that lack a channel"] += [*files, pair.label]
        else:
            complete.append((pair, tuple(found[column][0].file.path for column in columns)))
    return complete, left


# Names and patients


def _names(pairs: Sequence[Pair], reading: Reading) -> list[str]:
    """A name for each case that no other has: its file's, else with the folders above."""
    files = [_naming_file(pair, reading) for pair in pairs]
    short = [case_name(file, reading, pair.key) for file, pair in zip(files, pairs, strict=True)]
    if _are_distinct(short):
        return short
    long = [
        "_".join((*(f for f in telling_folders(file, pair.key) if f not in name), name))
        for file, pair, name in zip(files, pairs, short, strict=True)
    ]
    return long if _are_distinct(long) else ["_".join(_without_ending(p.label)) for p in pairs]


def _are_distinct(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)


def _naming_file(pair: Pair, reading: Reading) -> NamedFile:
    """The file whose name tells the case and least besides."""
    files = [pair.label, *(image for image, _ in pair.images)]
    telling = [f for f in files if set(pair.key) & set(words_of(f.file.stem))]
    return min(telling or files, key=lambda file: len(case_name(file, reading, pair.key)))


def _without_ending(file: NamedFile) -> tuple[str, ...]:
    return (*file.file.folders, file.file.stem)


def _groups(pairs: Sequence[Pair], names: Sequence[str], reading: Reading) -> dict[str, str]:
    """Patients with several cases, by the names of the cases, else with the folders above."""
    found = patients_of(names)
    if found:
        return found
    full: dict[str, str] = {}
    for pair, name in zip(pairs, names, strict=True):
        folders = telling_folders(_naming_file(pair, reading), pair.key)
        full["_".join(dict.fromkeys((*folders, name)))] = name
    return {full[long]: patient for long, patient in patients_of(full).items()}


# What is left


def _left_out(matching: Matching, more: dict[str, list[NamedFile]]) -> tuple[LeftOut, ...]:
    left = {
        "images without a label map": matching.images,
        "label maps without an image": matching.labels,
        "label maps of cases that have several": [f for same in matching.rivals for f in same],
        **more,
    }
    return tuple(LeftOut(why=why, files=_paths(files)) for why, files in left.items() if files)


def _paths(files: Iterable[NamedFile]) -> tuple[Path, ...]:
    return tuple(sorted(file.file.path for file in files))
