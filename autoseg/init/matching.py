"""Images to label maps, by the words that tell their cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoseg.init.names import NamedFile
from autoseg.init.words import words_of

Key = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Pair:
    """A label map and its images.

    Attributes:
        label: the label map.
        key: the words that tell the case.
        images: each with the words it has beyond the key.
    """

    label: NamedFile
    key: Key
    images: list[tuple[NamedFile, Key]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Matching:
    """What belongs together.

    Attributes:
        pairs: label maps with images.
        images: images without a label map.
        labels: label maps without an image.
        rivals: label maps of one case, where there are several.
    """

    pairs: list[Pair]
    images: list[NamedFile]
    labels: list[NamedFile]
    rivals: list[list[NamedFile]]


def match(files: Sequence[NamedFile]) -> Matching:
    """Find the images of each label map.

    Equal words belong together. Where fewer than half of the label maps find an image so, one
    side may have words more: ``case1/seg`` and ``case1/axial``; the longest match counts.
    """
    labels = [file for file in files if file.is_label]
    images = [file for file in files if not file.is_label]
    label_keys, image_keys = _without_constants(labels, images)
    by_key: dict[Key, list[NamedFile]] = defaultdict(list)
    for label, key in zip(labels, label_keys, strict=True):
        by_key[key].append(label)
    rivals = [same for same in by_key.values() if len(same) > 1]
    pairs = {key: Pair(label=same[0], key=key) for key, same in by_key.items() if len(same) == 1}
    _match_equal(pairs, images, image_keys)
    if sum(bool(pair.images) for pair in pairs.values()) * 2 < len(pairs):
        rivals += _match_contained(pairs, images, image_keys)
    return _matching(pairs, images, labels, rivals)


def _matching(
    pairs: dict[Key, Pair],
    images: Sequence[NamedFile],
    labels: Sequence[NamedFile],
    rivals: list[list[NamedFile]],
) -> Matching:
    for pair in pairs.values():
        _keep_one_split(pair)
    full = [pair for pair in pairs.values() if pair.images]
    used = {id(image) for pair in full for image, _ in pair.images}
    used |= {id(pair.label) for pair in full} | {id(file) for same in rivals for file in same}
    return Matching(
        pairs=full,
        images=[image for image in images if id(image) not in used],
        labels=[label for label in labels if id(label) not in used],
        rivals=rivals,
    )


def _without_constants(
    labels: Sequence[NamedFile], images: Sequence[NamedFile]
) -> tuple[list[Key], list[Key]]:
    """Keys without the words that every file of a role has: they tell no case from another."""
    in_labels = Counter(word for label in labels for word in set(label.key))
    in_images = Counter(word for image in images for word in set(image.key))

    def tells(word: str, own: Counter[str], count: int, other: Counter[str], others: int) -> bool:
        return count < 2 or own[word] < count or other[word] not in (0, others)

    def reduced(files: Sequence[NamedFile], *counts: Counter[str] | int) -> list[Key]:
        return [
            tuple(word for word in file.key if tells(word, *counts))  # type: ignore[arg-type]
            for file in files
        ]

    return (
        reduced(labels, in_labels, len(labels), in_images, len(images)),
        reduced(images, in_images, len(images), in_labels, len(labels)),
    )


def _match_equal(pairs: dict[Key, Pair], images: Sequence[NamedFile], keys: Sequence[Key]) -> None:
    for image, key in zip(images, keys, strict=True):
        if key in pairs:
            pairs[key].images.append((image, ()))


def _match_contained(
    pairs: dict[Key, Pair], images: Sequence[NamedFile], keys: Sequence[Key]
) -> list[list[NamedFile]]:
    """Match where one side has words more; returns label maps that fit the same image."""
    left = [(i, k) for i, k in zip(images, keys, strict=True) if k not in pairs]
    waiting = {key: pair for key, pair in pairs.items() if not pair.images}
    index = _Index(list(waiting))
    unmatched: list[tuple[NamedFile, Key]] = []
    for image, key in left:
        found = index.longest_within(key)
        if len(found) == 1:
            waiting[found[0]].images.append((image, _beyond(key, found[0])))
        else:
            unmatched.append((image, key))
    by_key: dict[Key, list[NamedFile]] = defaultdict(list)
    for image, key in unmatched:
        by_key[key].append(image)
    rivals = _match_longer_labels([p for p in waiting.values() if not p.images], by_key)
    matched = {id(image) for pair in waiting.values() for image, _ in pair.images}
    _match_folders(pairs, [image for image, _ in unmatched if id(image) not in matched], rivals)
    return rivals


def _match_longer_labels(
    pairs: Sequence[Pair], images: dict[Key, list[NamedFile]]
) -> list[list[NamedFile]]:
    index = _Index(list(images))
    wanted: dict[Key, list[Pair]] = defaultdict(list)
    for pair in pairs:
        found = index.longest_within(pair.key)
        if len(found) == 1:
            wanted[found[0]].append(pair)
    for key, claims in wanted.items():
        if len(claims) == 1:
            claims[0].images = [(image, ()) for image in images[key]]
            claims[0].key = key
    return [[pair.label for pair in claims] for claims in wanted.values() if len(claims) > 1]


def _match_folders(
    pairs: dict[Key, Pair], images: Sequence[NamedFile], rivals: Sequence[Sequence[NamedFile]]
) -> None:
    """Match what lies in one folder with a single label map, whatever the names are."""
    others = [label for same in rivals for label in same]
    labels = Counter(label.file.folders for label in (*(p.label for p in pairs.values()), *others))
    inside: dict[tuple[str, ...], list[NamedFile]] = defaultdict(list)
    for image in images:
        inside[image.file.folders].append(image)
    for pair in pairs.values():
        folders = pair.label.file.folders
        if folders and not pair.images and labels[folders] == 1:
            words = {word for folder in folders for word in words_of(folder)}
            pair.images = [(image, _beyond(image.key, tuple(words))) for image in inside[folders]]
            pair.key = tuple(word for word in pair.key if word in words)


def _keep_one_split(pair: Pair) -> None:
    """Images called alike in the folders train and test are not two channels of a case."""
    splits = {image.split for image, _ in pair.images}
    if len(splits) > 1:
        wanted = pair.label.split if pair.label.split in splits else "train"
        pair.images = [(image, more) for image, more in pair.images if image.split == wanted]


def _beyond(longer: Key, shorter: Key) -> Key:
    return tuple(word for word in longer if word not in shorter)


class _Index:
    """Keys, found by those of their words that occur in the fewest of them."""

    def __init__(self, keys: Sequence[Key]) -> None:
        counts = Counter(word for key in keys for word in key)
        self._by_word: dict[str, list[Key]] = defaultdict(list)
        self._is_alone = len(keys) == 1
        self._keys = keys
        for key in keys:
            if key:
                self._by_word[min(key, key=lambda word: (counts[word], word))].append(key)

    def longest_within(self, key: Key) -> list[Key]:
        """The longest of the keys whose words occur in this order in another."""
        if self._is_alone and not self._keys[0]:
            return [()]
        found = [k for word in set(key) for k in self._by_word.get(word, ()) if _is_within(k, key)]
        most = max(map(len, found), default=0)
        return [candidate for candidate in found if len(candidate) == most]


def _is_within(shorter: Key, longer: Key) -> bool:
    rest = iter(longer)
    return all(word in rest for word in shorter)
