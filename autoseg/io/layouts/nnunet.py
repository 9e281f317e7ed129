"""nnU-Net's layout: one file per channel, numbered; or a table of files anywhere."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoseg.core.dataset import Case, Split
from autoseg.errors import AutosegError
from autoseg.io import dataset_json, formats, images
from autoseg.io.layouts.decathlon import cases_of_entries
from autoseg.io.layouts.folder_tree import FolderTree, ImageName
from autoseg.io.layouts.found import Found, Problems
from autoseg.io.nnunet_folders import SPLITS, preprocessed_splits

logger = logging.getLogger(__name__)

IMAGES, LABELS = "imagesTr", "labelsTr"
CHANNEL_NUMBER = re.compile(r"(.+)_(\d{4})")
"""Name of a case and number of a channel in the name of an image."""
_DEFAULT_ENDING = ".nii.gz"

Numbered = Mapping[str, Mapping[int, ImageName]]


def read_nnunet(tree: FolderTree, data: Mapping[str, Any], problems: Problems) -> Found:
    """Read the cases of ``imagesTr`` and ``labelsTr``, or of the table ``dataset``.

    Args:
        tree: the folder.
        data: its ``dataset.json``.
        problems: gets what is wrong with description, names of files and folds.
    """
    channels = dataset_json.channels(data, problems)
    labels = dataset_json.labels(data, problems)
    if "dataset" in data:
        entries = dataset_json.case_table(data, problems)
        cases = cases_of_entries(entries, channels, problems)
    else:
        cases = _scan(tree, data, channels, problems)
    folds = _read_folds(tree, [case.name for case in cases], problems)
    return Found(layout="nnunet", channels=channels, labels=labels, cases=cases, folds=folds)


# Names of files


def _scan(
    tree: FolderTree, data: Mapping[str, Any], channels: Sequence[str], problems: Problems
) -> tuple[Case, ...]:
    ending = data.get("file_ending", "")
    if not isinstance(ending, str) or (ending and ending.lower() not in formats.suffixes()):
        problems.at("file_ending", "no image format's ending")
        return ()
    found = _numbered(tree, ending, problems)
    labels = _by_stem(tree, LABELS, tree.images(LABELS), ending, problems)
    if not found and not labels:
        problems.add("description", f"{IMAGES} and {LABELS} hold no images", tree.root)
    ending = ending or _ending_of(found, labels)
    count = 1 if _one_file_holds_all(tree, found, channels) else len(channels)
    _tell_numbers(tree, found, count, problems)
    return tuple(
        Case(
            name=name,
            images=tuple(
                Path(IMAGES, _name(found.get(name, {}).get(i), f"{name}_{i:04d}{ending}"))
                for i in range(max(count, 1))
            ),
            label=Path(LABELS, _name(labels.get(name), f"{name}{ending}")),
        )
        for name in sorted(labels.keys() | found.keys())
    )


def _name(image: ImageName | None, expected: str) -> str:
    return expected if image is None else image.name


def _numbered(tree: FolderTree, ending: str, problems: Problems) -> Numbered:
    """Images by case and channel number."""
    folders = [ImageName(name, name, "") for name in tree.folders(IMAGES)]
    series = [folder for folder in folders if CHANNEL_NUMBER.fullmatch(folder.stem)]
    files = _by_stem(tree, IMAGES, [*tree.images(IMAGES), *series], ending, problems)
    found: dict[str, dict[int, ImageName]] = defaultdict(dict)
    for stem, image in files.items():
        match = CHANNEL_NUMBER.fullmatch(stem)
        if match is None:
            file = tree.root / IMAGES / image.name
            problems.add("name", "no channel number such as _0000", file)
        else:
            found[match[1]][int(match[2])] = image
    return found


def _by_stem(
    tree: FolderTree, folder: str, names: Iterable[ImageName], ending: str, problems: Problems
) -> dict[str, ImageName]:
    """Images by name without ending; of two formats the described one is meant."""
    by_stem: dict[str, ImageName] = {}
    for image in names:
        other = by_stem.setdefault(image.stem, image)
        if other is image or other.suffix.lower() == ending.lower():
            continue
        by_stem[image.stem] = image
        if image.suffix.lower() != ending.lower():
            finding = f"there is {other.name}, too: which one is meant?"
            problems.add("name", finding, tree.root / folder / image.name)
    return by_stem


def _ending_of(found: Numbered, labels: Mapping[str, ImageName]) -> str:
    """The ending to name missing files by where the description has none."""
    names = [*labels.values(), *(image for files in found.values() for image in files.values())]
    return next((image.suffix for image in names if image.suffix), _DEFAULT_ENDING)


def _one_file_holds_all(tree: FolderTree, found: Numbered, channels: Sequence[str]) -> bool:
    """Whether each case is one file (a colour picture, say) that holds several channels."""
    if not found or len(channels) < 2 or any(set(files) != {0} for files in found.values()):
        return False
    first = next(iter(found.values()))[0]
    try:
        return images.read_geometry(tree.root / IMAGES / first.name)[1] == len(channels)
    except AutosegError:
        return False


def _tell_numbers(tree: FolderTree, found: Numbered, count: int, problems: Problems) -> None:
    for name, files in found.items():
        for number in sorted(files):
            if number >= count > 0:
                file = tree.root / IMAGES / files[number].name
                finding = "a channel number that is not in 'channel_names'"
                problems.add("description", finding, file, case=name)


# Folds


def _read_folds(
    tree: FolderTree, names: Sequence[str], problems: Problems
) -> tuple[Split, ...] | None:
    """The folds of ``splits_final.json``; None if there are none or they are wrong."""
    if not tree.has_file(SPLITS):
        return _folds_in_use(tree.root, names)
    file = tree.root / SPLITS
    try:
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        problems.add("description", f"cannot be read ({error})", file)
        return None
    findings = _fold_findings(rows, set(names))
    for finding in findings:
        problems.add("description", finding, file)
    if findings:
        return None
    folds = _folds(rows)
    listed = {name for fold in folds for name in (*fold.train, *fold.validation)}
    for name in sorted(set(names) - listed):
        problems.add("unlisted", "in none of the folds", file, case=name)
    return folds


def _folds_in_use(root: Path, names: Sequence[str]) -> tuple[Split, ...] | None:
    """The folds nnU-Net made for the same data; they are no part of it, so never its fault."""
    file = preprocessed_splits(root)
    if file is None:
        return None
    try:
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        logger.warning("%s: cannot be read (%s), and is not used", file, error)
        return None
    findings = _fold_findings(rows, set(names))
    if findings:
        logger.warning("%s: %s, so its folds are not used", file, findings[0])
        return None
    logger.info("the folds are those of %s", file)
    return _folds(rows)


def _folds(rows: Sequence[Mapping[str, Sequence[str]]]) -> tuple[Split, ...]:
    return tuple(Split(train=tuple(row["train"]), validation=tuple(row["val"])) for row in rows)


def _fold_findings(rows: object, names: set[str]) -> list[str]:
    if not isinstance(rows, list) or not rows:
        return ["should list the folds, with 'train' and 'val' each"]
    return [finding for i, row in enumerate(rows) for finding in _findings_of_fold(i, row, names)]


def _findings_of_fold(number: int, row: object, names: set[str]) -> list[str]:
    if not isinstance(row, dict) or not (
        _are_names(row.get("train")) and _are_names(row.get("val"))
    ):
        return [f"{number}: should have lists of cases 'train' and 'val'"]
    listed = [*row["train"], *row["val"]]
    unknown = sorted(set(listed) - names)
    twice = sorted(name for name, count in Counter(listed).items() if count > 1)
    findings: list[str] = []
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        findings.append(f"{number}: no case is named '{unknown[0]}'{more}")
    if twice:
        more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
        findings.append(f"{number}: lists '{twice[0]}'{more} twice")
    return findings


def _are_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
