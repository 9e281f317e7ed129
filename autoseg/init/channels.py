"""What the channels are called, and why: by names of files, DICOM headers, or values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.imaging.intensities import looks_like_hu
from autoseg.init.guess import UNNAMED_CHANNEL
from autoseg.init.words import CHANNEL_NAMES

COLOURS = ("R", "G", "B")
_MODALITIES = {"CT": "CT", "MR": "MR", "PT": "PET", "US": "US"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRange:
    """Values of one channel of an image."""

    min: float
    max: float
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLook:
    """What one image file is like.

    Attributes:
        is_flat: whether it has one slice.
        channels: one range for each of its channels.
        modality: as DICOM says it; None for other formats.
    """

    is_flat: bool
    channels: tuple[ChannelRange, ...]
    modality: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedChannel:
    """The name of a channel, and why it has it."""

    name: str
    reason: str


def name_channels(
    guessed: Sequence[str], marks: Sequence[str], looks: Sequence[Sequence[ImageLook]]
) -> tuple[NamedChannel, ...]:
    """Name the channels of a data set.

    Args:
        guessed: names by the names of files, one per file of a case.
        marks: the words they were found by, empty or a number if there was none.
        looks: for each of these files, what some of them are like; at least one.

    Returns:
        One for each channel, also of those that share a file.
    """
    named = [
        channel
        for name, mark, some in zip(guessed, marks, looks, strict=True)
        for channel in _of_file(name, mark, some, is_only=len(guessed) == 1)
    ]
    counts = Counter(channel.name.casefold() for channel in named)
    return tuple(
        channel
        if counts[channel.name.casefold()] == 1
        else NamedChannel(name=f"{channel.name}_{i}", reason=channel.reason)
        for i, channel in enumerate(named)
    )


def _of_file(
    name: str, mark: str, looks: Sequence[ImageLook], *, is_only: bool
) -> list[NamedChannel]:
    count = Counter(len(look.channels) for look in looks).most_common(1)[0][0]
    alike = [look for look in looks if len(look.channels) == count]
    if is_only and count == len(COLOURS) and all(map(_is_colour, alike)):
        return [NamedChannel(name=c, reason="colour pictures") for c in COLOURS]
    if count > 1:
        reason = f"the files hold {count} channels, whose names they do not tell"
        return [NamedChannel(name=f"{name}_{i}", reason=reason) for i in range(count)]
    if mark in CHANNEL_NAMES:
        return [NamedChannel(name=name, reason=f"'{mark}' in the names of the files")]
    return [_by_content(name, mark, alike, is_only=is_only)]


def _is_colour(look: ImageLook) -> bool:
    return look.is_flat and all(
        channel.is_whole and channel.min >= 0 and channel.max <= 255 for channel in look.channels
    )


def _by_content(name: str, mark: str, looks: Sequence[ImageLook], *, is_only: bool) -> NamedChannel:
    modalities = {look.modality for look in looks}
    modality = _MODALITIES.get(modalities.pop() or "") if len(modalities) == 1 else None
    if modality is not None:
        return NamedChannel(name=modality, reason="modality of the DICOM files")
    ranges = [look.channels[0] for look in looks]
    num_hu = sum(looks_like_hu(r.min, r.max, r.is_whole) for r in ranges)
    seen = f"{num_hu} of {len(ranges)} images looked at"
    if 2 * num_hu > len(ranges):
        return NamedChannel(
            name="CT", reason=f"{seen} hold whole numbers from air to bone, as in Hounsfield units"
        )
    if mark and not mark.isdigit():
        return NamedChannel(name=name, reason=f"'{mark}' in the names of the files")
    lowest, highest = min(r.min for r in ranges), max(r.max for r in ranges)
    name = UNNAMED_CHANNEL if is_only else name
    values = f"values from {lowest:g} to {highest:g}"
    if num_hu:
        return NamedChannel(name=name, reason=f"{values}, only {seen} can be CT; no name says more")
    return NamedChannel(name=name, reason=f"{values}, which is no CT; no name says what it is")
