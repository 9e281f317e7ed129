"""Case folders of the BraTS challenges: the end of each file's name is its channel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoseg.core.dataset import Case
from autoseg.core.labels import LabelSpace, Structure
from autoseg.io import dataset_json
from autoseg.io.layouts.folder_tree import FolderTree, ImageName
from autoseg.io.layouts.found import Found, Problems

CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
"""Channels in the order models see them, whatever order the folders list."""
_CHANNEL_OF = {
    "t1": "T1",
    "t1n": "T1",
    "t1ce": "T1ce",
    "t1c": "T1ce",
    "t1gd": "T1ce",
    "t2": "T2",
    "t2w": "T2",
    "flair": "FLAIR",
    "t2f": "FLAIR",
}
_NEW_ENDS = {"T1": "t1n", "T1ce": "t1c", "T2": "t2w", "FLAIR": "t2f"}
_OLD_ENDS = {"T1": "t1", "T1ce": "t1ce", "T2": "t2", "FLAIR": "flair"}
_LABEL_ENDS = ("seg", "segm")
_ENDS = {*_CHANNEL_OF, *_LABEL_ENDS}
_PREFIX = "brats"
_GRADES = ("hgg", "lgg")
_NEW_NAME = re.compile(r"(BraTS-([A-Z]+)-\d+)-\d+", re.IGNORECASE)
_END = re.compile(r"(.+)([_-])([^_-]+)")
_CHANGING_LABELS = ("PED",)
"""Series whose label values have meant different things in different years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A case as the names in its folder tell it.

    Attributes:
        name: of the case: its folder's.
        folder: path of the folder, relative to the data set.
        separator: what divides the name of the case from that of the channel.
        suffix: ending of the files.
        channels: name of the file of each channel that is there.
        label: name of the label map, if it is there.
    """

    name: str
    folder: str
    separator: str
    suffix: str
    channels: Mapping[str, str]
    label: str | None

    @property
    def is_new(self) -> bool:
        """Whether it is named as since 2023, when the values of the labels changed."""
        return _NEW_NAME.fullmatch(self.name) is not None or self.separator == "-"


def find_scans(tree: FolderTree) -> list[Scan]:
    """Find case folders, also below ``HGG`` and ``LGG`` as in the earlier challenges.

    Folders that are only named so count where others hold the files, too.
    """
    folders = {folder: look_into(tree, folder) for folder in candidates(tree)}
    first = next((scan for scan in folders.values() if scan is not None), None)
    if first is None:
        return []
    return [
        scan or replace(first, name=Path(folder).name, folder=folder, channels={}, label=None)
        for folder, scan in folders.items()
        if scan is not None or Path(folder).name.lower().startswith(_PREFIX)
    ]


def candidates(tree: FolderTree) -> Iterator[str]:
    """Folders that may be cases: those of a folder, and those below ``HGG`` and ``LGG``."""
    for folder in tree.folders():
        if folder.lower() in _GRADES:
            yield from (f"{folder}/{child}" for child in tree.folders(folder))
        else:
            yield folder


def look_into(tree: FolderTree, folder: str) -> Scan | None:
    """What the names in a folder say; None if they are not those of BraTS.

    Args:
        tree: the folder it is in.
        folder: its name, or a path below the tree's root.
    """
    name = Path(folder).name or tree.root.resolve().name
    files = [(image, _END.fullmatch(image.stem)) for image in tree.images(folder)]
    ended = [(image, match) for image, match in files if match is not None]
    own = [
        (image, match)
        for image, match in ended
        if match[1].lower() == name.lower() and match[3].lower() in _ENDS
    ]
    if not own:
        return None
    channels = {_CHANNEL_OF.get(match[3].lower(), ""): image.name for image, match in own}
    channels.pop("", None)
    return Scan(
        name=name,
        folder=folder,
        separator=own[0][1][2],
        suffix=own[0][0].suffix,
        channels=channels,
        # In one of the challenges a label map kept the name it had before.
        label=_label_of(own) or _label_of(ended),
    )


def read_scans(scans: Sequence[Scan], data: Mapping[str, Any], problems: Problems) -> Found:
    """Turn case folders into cases.

    Args:
        scans: the case folders, at least one.
        data: a ``dataset.json`` beside them; what it says counts. Channels are matched by name,
            or where the names are others, by order.
        problems: gets what is wrong with it.
    """
    seen = {channel for scan in scans for channel in scan.channels}
    present = [channel for channel in CHANNELS if channel in seen or not seen]
    has_channels = any(key in data for key in dataset_json.CHANNEL_KEYS)
    named = dataset_json.channels(data, problems) if has_channels else tuple(present)
    sources = _sources(named, present)
    if named and sources is None:
        finding = f"{len(named)} names for the channels {', '.join(present)}"
        problems.add("description", finding, problems.description)
    return Found(
        layout="case_folders",
        channels=named if sources is not None else (),
        labels=_labels(scans, data, problems),
        cases=tuple(_case(scan, sources or present) for scan in scans),
    )


def _label_of(files: Sequence[tuple[ImageName, re.Match[str]]]) -> str | None:
    return next((image.name for image, match in files if match[3].lower() in _LABEL_ENDS), None)


def _sources(named: Sequence[str], present: Sequence[str]) -> list[str] | None:
    """The channel of the files behind each declared one."""
    known = [_CHANNEL_OF.get(name.strip().lower()) for name in named]
    by_name = [channel for channel in known if channel is not None]
    if len(by_name) == len(named) == len(set(by_name)):
        return by_name
    return list(present) if len(named) == len(present) else None


def _labels(
    scans: Sequence[Scan], data: Mapping[str, Any], problems: Problems
) -> LabelSpace | None:
    if "labels" in data:
        return dataset_json.labels(data, problems)
    reason = _reason_to_ask(scans)
    if reason is not None:
        problems.at("labels", f"needed, for {reason}")
        return None
    values = {"necrosis": 1, "oedema": 2, "enhancing tumour": 3 if scans[0].is_new else 4}
    return LabelSpace(
        structures=tuple(Structure(name=name, values=(value,)) for name, value in values.items())
    )


def _reason_to_ask(scans: Sequence[Scan]) -> str | None:
    """Why the names alone do not tell what the label values mean, if they do not."""
    others = [scan.name for scan in scans if not scan.name.lower().startswith(_PREFIX)]
    if others:
        return f"they are known of BraTS only, and there is {others[0]}"
    series = {match[2].upper() for s in scans if (match := _NEW_NAME.fullmatch(s.name))}
    changing = sorted(series & set(_CHANGING_LABELS))
    if changing:
        return f"the label values of BraTS-{changing[0]} differ from year to year"
    if len({scan.is_new for scan in scans}) > 1:
        return "their values differ before 2023 and after"
    return None


def _case(scan: Scan, sources: Sequence[str]) -> Case:
    ends = _NEW_ENDS if scan.is_new else _OLD_ENDS

    def expected(end: str) -> str:
        return f"{scan.name}{scan.separator}{end}{scan.suffix}"

    files = [scan.channels.get(channel) or expected(ends[channel]) for channel in sources]
    match = _NEW_NAME.fullmatch(scan.name)
    return Case(
        name=scan.name,
        images=tuple(Path(scan.folder, file) for file in files),
        label=Path(scan.folder, scan.label or expected(_LABEL_ENDS[0])),
        group=None if match is None else match[1],
    )
