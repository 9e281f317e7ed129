"""The Medical Segmentation Decathlon's layout: ``dataset.json`` lists the cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoseg.core.dataset import Case
from autoseg.io import dataset_json, formats
from autoseg.io.dataset_json import Entry
from autoseg.io.layouts.folder_tree import FolderTree
from autoseg.io.layouts.found import Found, Problems

_LABELS = "labelsTr"


def read_decathlon(tree: FolderTree, data: Mapping[str, Any], problems: Problems) -> Found:
    """Read the cases of the list ``training``; the list ``test`` has no labels.

    Args:
        tree: the folder.
        data: its ``dataset.json``.
        problems: gets what is wrong with the description, and label files it does not list.
    """
    channels = dataset_json.channels(data, problems)
    labels = dataset_json.labels(data, problems)
    entries = dataset_json.training_table(data, problems)
    _tell_unlisted(tree, entries, problems)
    cases = cases_of_entries(entries, channels, problems)
    return Found(layout="decathlon", channels=channels, labels=labels, cases=cases)


def cases_of_entries(
    entries: Sequence[Entry], channels: Sequence[str], problems: Problems
) -> tuple[Case, ...]:
    """Turn the entries of a table in ``dataset.json`` into cases.

    Args:
        entries: the table.
        channels: names of the channels; nothing if they are not known.
        problems: gets entries with another number of files.
    """
    cases: list[Case] = []
    for entry in entries:
        name = entry.name or _parts(entry.label)[0]
        if channels and len(entry.images) not in (1, len(channels)):
            finding = f"{len(entry.images)} files for {len(channels)} channels"
            problems.at(f"{entry.location}.images", finding, case=name)
        cases.append(Case(name=name, images=entry.images, label=entry.label))
    return tuple(cases)


def _tell_unlisted(tree: FolderTree, entries: Sequence[Entry], problems: Problems) -> None:
    listed = {entry.label.name for entry in entries}
    for label in tree.images(_LABELS):
        if label.name not in listed:
            file = tree.root / _LABELS / label.name
            problems.add("unlisted", "not in 'training'", file, case=label.stem)


def lists_numbered_files(tree: FolderTree, data: Mapping[str, Any]) -> bool:
    """Whether the list names cases whose files have channel numbers, as nnU-Net v1 has it.

    Args:
        tree: the folder.
        data: its ``dataset.json``.
    """
    rows = data.get("training")
    first = rows[0] if isinstance(rows, list) and rows else None
    image = first.get("image") if isinstance(first, dict) else None
    if not isinstance(image, str) or tree.has(Path(image)):
        return False
    stem, suffix = _parts(Path(image))
    return tree.has(Path(image).parent / f"{stem}_0000{suffix}")


def _parts(path: Path) -> tuple[str, str]:
    """Name and ending of a listed file, which need not be there."""
    suffix = formats.suffix_of(path) or path.suffix
    return path.name.removesuffix(suffix), suffix
