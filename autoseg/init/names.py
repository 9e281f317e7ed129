"""What the path of one file tells: label map or image, which channel, which case."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from autoseg.init.words import (
    IMAGE_WORDS,
    LABEL_WORDS,
    NEUTRAL_WORDS,
    SPLIT_WORDS,
    is_channel,
    is_segmentation,
    split_words,
    words_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """A file, or a folder that is an image, in the folder looked at.

    Attributes:
        path: relative to that folder.
        stem: the file's name without its ending; empty for a folder.
    """

    path: Path
    stem: str

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders above the file; for a folder, its own is the last."""
        return self.path.parent.parts if self.stem else self.path.parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A way to read names.

    Attributes:
        words_are_channels: whether ``t1`` is a channel, and not part of a case's name.
        numbers_are_channels: whether ``_0000`` at the end of an image is a channel's number.
        label_words: words that mark a label map besides the usual ones.
        ignored: words of all files, which say nothing about one of them.
    """

    words_are_channels: bool = True
    numbers_are_channels: bool = False
    label_words: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """A file as a reading sees it.

    Attributes:
        file: the file.
        is_label: whether it is a label map.
        channel: the word or number of its channel, empty if there is none.
        key: the words left, which tell the case.
        split: ``train``, ``val`` or ``test`` where a folder says so.
    """

    file: ImageFile
    is_label: bool
    channel: str
    key: tuple[str, ...]
    split: str | None


def read_name(file: ImageFile, reading: Reading) -> NamedFile:
    """Read one name."""
    folders = [words_of(folder) for folder in file.folders]
    stem = words_of(file.stem)
    is_label = _is_label(file, folders, stem, reading)
    stem_channel, rest = _take_channel(stem, is_label, reading)
    folder_channel = "" if is_label else _folder_channel(folders, reading)
    own = [word for word in rest if not _is_role(word, reading)]
    above = [
        SPLIT_WORDS.get(word, word)
        for words in folders
        for word in words
        if not _is_role(word, reading) and not _is_channel_folder(words, reading)
    ]
    splits = [SPLIT_WORDS[word] for words in folders for word in words if word in SPLIT_WORDS]
    return NamedFile(
        file=file,
        is_label=is_label,
        channel=stem_channel or folder_channel,
        key=tuple(dict.fromkeys([word for word in above if word not in own])) + tuple(own),
        split=splits[-1] if splits else None,
    )


def case_name(file: NamedFile, reading: Reading, key: Sequence[str]) -> str:
    """What a case is called by one of its files.

    Args:
        file: an image or the label map.
        reading: how names are read.
        key: the words that tell this case from the others.

    Returns:
        The file's name without what says its role, if it tells the case, else that of the
        folders that do.
    """
    stem = words_of(file.file.stem)
    if not key or set(key) & set(stem):
        bare = _without_roles(file, reading)
        if bare:
            return bare
    return "_".join(telling_folders(file, key)) or file.file.stem or file.file.path.name


def telling_folders(file: NamedFile, key: Sequence[str]) -> list[str]:
    """Folders above a file that tell its case, leaving out those its name repeats."""
    stem = set(words_of(file.file.stem))
    words = [(folder, set(words_of(folder))) for folder in file.file.folders]
    return [folder for folder, own in words if own & set(key) and not own <= stem]


def _without_roles(file: NamedFile, reading: Reading) -> str:
    channel, _ = _take_channel(words_of(file.file.stem), file.is_label, reading)
    return _drop(file.file.stem, {channel, *_label_words(reading)})


def _drop(text: str, words: Collection[str]) -> str:
    """Leave out words, and what separates them from those before."""
    pieces = split_words(text)
    kept: list[str] = []
    for number in range(0, len(pieces), 2):
        if pieces[number].casefold() in words or not pieces[number]:
            continue
        if kept:
            kept.append(pieces[number - 1])
        kept.append(pieces[number])
    return "".join(kept)


def _label_words(reading: Reading) -> frozenset[str]:
    return _words_of_labels(reading.label_words, reading.ignored)


@lru_cache(maxsize=16)
def _words_of_labels(more: frozenset[str], ignored: frozenset[str]) -> frozenset[str]:
    return (LABEL_WORDS | more) - ignored


def _is_role(word: str, reading: Reading) -> bool:
    return word in IMAGE_WORDS or word in NEUTRAL_WORDS or word in _label_words(reading)


def _is_label(
    file: ImageFile, folders: Sequence[Sequence[str]], stem: Sequence[str], reading: Reading
) -> bool:
    """By the file's own name, else by the innermost folder that says anything."""
    label_words = _label_words(reading)
    if is_segmentation(file.path.name) or label_words & set(stem):
        return True
    for words in reversed(folders):
        if label_words & set(words):
            return True
        says_image = IMAGE_WORDS & (set(words) - set(reading.ignored))
        if says_image or _is_channel_folder(words, reading):
            return False
    return False


def _take_channel(
    stem: Sequence[str], is_label: bool, reading: Reading
) -> tuple[str, tuple[str, ...]]:
    """The channel in a file's name, and the words left."""
    words = [word for word in stem if not _is_role(word, reading) or is_channel(word)]
    if not words:
        return "", tuple(stem)
    last, first = words[-1], words[0]
    if reading.numbers_are_channels:
        is_number = not is_label and len(last) == 4 and last.isdigit() and len(words) > 1
        return (last, tuple(words[:-1])) if is_number else ("", tuple(words))
    if not reading.words_are_channels:
        return "", tuple(words)
    if is_channel(last):
        return last, tuple(words[:-1])
    return (first, tuple(words[1:])) if is_channel(first, is_last=False) else ("", tuple(words))


def _is_channel_folder(words: Sequence[str], reading: Reading) -> bool:
    return reading.words_are_channels and len(words) == 1 and is_channel(words[0])


def _folder_channel(folders: Sequence[Sequence[str]], reading: Reading) -> str:
    named = [words[0] for words in folders if _is_channel_folder(words, reading)]
    return named[-1] if named else ""
