"""Folders of raw data, in every layout people have them, as a ``Dataset``.

Layouts: the Medical Segmentation Decathlon's, nnU-Net's (``imagesTr``/``labelsTr`` with channel
numbers, or a ``dataset`` table), and a folder per case as in KiTS. Nothing is written here.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoseg.core.dataset import Case, Dataset
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import AutosegError, DataError
from autoseg.io import dataset_json, formats, images
from autoseg.io.dataset_json import DESCRIPTION, Entry, Problems
from autoseg.io.workspace import check_name

logger = logging.getLogger(__name__)

_IMAGES, _LABELS = "imagesTr", "labelsTr"
_CASE_IMAGE, _CASE_LABEL = "imaging.nii.gz", "segmentation.nii.gz"
_KITS_CHANNELS = ("CT",)
_KITS_LABELS = LabelSpace(
    structures=(Structure(name="kidney", values=(1,)), Structure(name="tumour", values=(2,)))
)
_CHANNEL_NUMBER = re.compile(r"(.+)_(\d{4})")


def find_dataset(folder: Path) -> Dataset:
    """Find out what a folder of annotated images holds.

    Only names are read, no voxels.

    Args:
        folder: the folder; its name becomes the task's.

    Returns:
        The data set, its cases sorted by name.

    Raises:
        DataError: if it is no data set, or anything in it is missing or contradictory: all
            problems at once, the first few with their file names.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        finding = "is a file, not the folder of a data set" if root.exists() else "no such folder"
        raise DataError(finding, place=folder)
    data = dataset_json.read(root) if (root / DESCRIPTION).is_file() else None
    problems = Problems()
    layout, channels, labels, cases = _read_layout(root, data, problems)
    problems.extend(_name_problems(case.name for case in cases))
    problems.refuse_if_any(root)
    assert labels is not None
    return Dataset(
        name=root.name,
        root=root,
        layout=layout,
        channels=channels,
        labels=labels,
        cases=tuple(sorted(cases, key=lambda case: case.name)),
    )


def predict_inputs(path: Path, num_channels: int) -> list[tuple[str, tuple[Path, ...]]]:
    """Find the images to segment.

    Files ``<case>_0000.*``, ``<case>_0001.*``, ... are the channels of one case if there is
    exactly one for every channel; any other image file is a case of its own.

    Args:
        path: an image, a folder of images, or a folder with a folder per case as in KiTS.
        num_channels: how many channels the model needs.

    Returns:
        Name and image files of each case, sorted by name.

    Raises:
        DataError: if nothing there can be segmented, or two cases would have one name.
    """
    path = path.expanduser()
    if not path.exists():
        raise DataError("no such file or folder", place=path)
    if path.is_file():
        found = _cases_of_file(path, num_channels)
    else:
        files = sorted(file for file in path.iterdir() if formats.is_image(file))
        if any(file.name == _CASE_IMAGE for file in files):
            return [(path.resolve().name, (path / _CASE_IMAGE,))]
        folders = _case_folders(path)
        in_folders = [(f.name, (f / _CASE_IMAGE,)) for f in folders if (f / _CASE_IMAGE).is_file()]
        found = in_folders + _group_channels(files, num_channels)
    if not found:
        looked_for = f"{', '.join(formats.suffixes())} or case folders with {_CASE_IMAGE}"
        raise DataError(f"no images found (looked for {looked_for})", place=path)
    twice = _name_problems(name for name, _ in found)
    if twice:
        raise DataError(twice[0], place=path, remedy="rename one of them")
    return sorted(found)


def label_files(folder: Path) -> dict[str, Path]:
    """Find the label maps of a folder: image files, or case folders as in KiTS.

    Returns:
        The file of each case, by name.

    Raises:
        DataError: if there is no such folder, or no label map in it.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError("no such folder", place=folder)
    in_folders = [(case.name, case / _CASE_LABEL) for case in _case_folders(folder)]
    found = {name: file for name, file in in_folders if file.is_file()}
    found |= {formats.stem(file): file for file in _image_files(folder)}
    if not found:
        raise DataError("no label maps found", place=folder)
    return found


Layout = tuple[str, tuple[str, ...], LabelSpace | None, list[Case]]


def _read_layout(root: Path, data: Mapping[str, Any] | None, problems: Problems) -> Layout:
    folders = _case_folders(root)
    has_table = data is not None and ("dataset" in data or "training" in data)
    if folders and not has_table and not (root / _IMAGES).is_dir():
        return _read_case_folders(root, data or {}, folders, problems)
    if data is None:
        raise DataError(
            f"not a data set: found neither {DESCRIPTION} nor case folders with {_CASE_IMAGE} "
            f"and {_CASE_LABEL}",
            place=root,
            remedy=f"choose the folder that holds {DESCRIPTION} or the case folders",
        )
    channels, labels = dataset_json.channels(data, problems), dataset_json.labels(data, problems)
    if "dataset" in data:
        cases = _cases_of_table(root, dataset_json.case_table(data, problems), problems)
        _check_channel_files(cases, channels, problems)
        return "nnunet", channels, labels, cases
    if "file_ending" in data or "training" not in data:
        return "nnunet", channels, labels, _scan_nnunet(root, data, channels, problems)
    entries = dataset_json.training_table(data, problems)
    _tell_unlisted(root, entries)
    return "decathlon", channels, labels, _cases_of_table(root, entries, problems)


# Case folders


def _case_folders(root: Path) -> list[Path]:
    def is_case(folder: Path) -> bool:
        files = (folder / _CASE_IMAGE, folder / _CASE_LABEL)
        return folder.name.startswith("case_") or any(file.is_file() for file in files)

    children = sorted(child for child in root.iterdir() if child.is_dir())
    return [child for child in children if not _is_hidden(child) and is_case(child)]


def _read_case_folders(
    root: Path, data: Mapping[str, Any], folders: Sequence[Path], problems: Problems
) -> Layout:
    names_channels = "channel_names" in data or "modality" in data
    channels = dataset_json.channels(data, problems) if names_channels else _KITS_CHANNELS
    labels = dataset_json.labels(data, problems) if "labels" in data else _KITS_LABELS
    cases: list[Case] = []
    for folder in folders:
        image, label = Path(folder.name, _CASE_IMAGE), Path(folder.name, _CASE_LABEL)
        problems.extend(_missing(root, (image, label)))
        cases.append(Case(name=folder.name, images=(image,), label=label))
    return "case_folders", channels, labels, cases


# Tables of cases


def _cases_of_table(root: Path, entries: Sequence[Entry], problems: Problems) -> list[Case]:
    for entry in entries:
        problems.extend(_missing(root, (*entry.images, entry.label)))
    return [
        Case(name=entry.name or formats.stem(entry.label), images=entry.images, label=entry.label)
        for entry in entries
    ]


def _check_channel_files(
    cases: Sequence[Case], channels: Sequence[str], problems: Problems
) -> None:
    for case in cases:
        if channels and len(case.images) not in (1, len(channels)):
            problems.at(
                f"dataset.{case.name}.images",
                f"{len(case.images)} files for {len(channels)} channels",
            )


def _tell_unlisted(root: Path, entries: Sequence[Entry]) -> None:
    listed = {entry.label.name for entry in entries}
    unlisted = [file for file in _image_files(root / _LABELS) if file.name not in listed]
    if unlisted:
        logger.warning(
            "%s: %d label files of %s are not in 'training' and left out, such as %s",
            root / DESCRIPTION,
            len(unlisted),
            _LABELS,
            unlisted[0].name,
        )


# nnU-Net's file names


def _scan_nnunet(
    root: Path, data: Mapping[str, Any], channels: Sequence[str], problems: Problems
) -> list[Case]:
    ending = data.get("file_ending")
    if not isinstance(ending, str) or ending.lower() not in formats.suffixes():
        problems.at("file_ending", "missing key" if ending is None else "no image format's ending")
        return []
    found = _channel_files(root, ending, problems)
    labels = {file.name[: -len(ending)] for file in _image_files(root / _LABELS, ending)}
    if not found and not labels:
        problems.append(f"{_IMAGES} and {_LABELS} hold no {ending} files")
    holds_all = _one_file_holds_all(root, found, channels, ending)
    cases: list[Case] = []
    for name in sorted(labels | set(found)):
        present = found.get(name, [])
        count = 1 if holds_all else len(channels)
        files = tuple(Path(_IMAGES, f"{name}_{i:04d}{ending}") for i in range(count))
        wanted = {file.name for file in files}
        problems.extend(f"{_IMAGES}/{file} is missing" for file in sorted(wanted - set(present)))
        if name not in labels:
            problems.append(f"{_LABELS}/{name}{ending} is missing")
        if channels:
            problems.extend(
                f"{_IMAGES}/{file} has a number that is not in 'channel_names'"
                for file in present
                if file not in wanted
            )
        cases.append(Case(name=name, images=files, label=Path(_LABELS, name + ending)))
    return cases


def _channel_files(root: Path, ending: str, problems: Problems) -> dict[str, list[str]]:
    """Names of image files by case."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in _image_files(root / _IMAGES, ending):
        match = _CHANNEL_NUMBER.fullmatch(file.name[: -len(ending)])
        if match is None:
            problems.append(f"{_IMAGES}/{file.name} has no channel number such as _0000")
        else:
            found[match[1]].append(file.name)
    return dict(found)


def _one_file_holds_all(
    root: Path, found: Mapping[str, Sequence[str]], channels: Sequence[str], ending: str
) -> bool:
    """Whether the only file of a case (a colour picture, say) holds several channels."""
    names = next(iter(found.items()), None)
    if names is None or len(channels) < 2 or list(names[1]) != [f"{names[0]}_0000{ending}"]:
        return False
    try:
        return images.read_geometry(root / _IMAGES / names[1][0])[1] == len(channels)
    except AutosegError:
        return False


# Images to segment


def _cases_of_file(file: Path, num_channels: int) -> list[tuple[str, tuple[Path, ...]]]:
    match = _CHANNEL_NUMBER.fullmatch(formats.stem(file))
    if match is not None:
        siblings = [
            sibling
            for sibling in sorted(file.parent.glob(f"{_escaped(match[1])}_[0-9][0-9][0-9][0-9].*"))
            if formats.is_image(sibling)
        ]
        groups = _group_channels(siblings, num_channels)
        return [group for group in groups if file in group[1]]
    return _group_channels([file], num_channels) if formats.is_image(file) else []


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def _group_channels(files: Sequence[Path], num_channels: int) -> list[tuple[str, tuple[Path, ...]]]:
    groups: dict[tuple[str, str | None], dict[int, Path]] = defaultdict(dict)
    singles: list[tuple[str, tuple[Path, ...]]] = []
    for file in files:
        match = _CHANNEL_NUMBER.fullmatch(formats.stem(file))
        if match is None:
            singles.append((formats.stem(file), (file,)))
        else:
            groups[match[1], formats.suffix_of(file)][int(match[2])] = file
    for (name, _), channels in groups.items():
        if sorted(channels) == list(range(num_channels)):
            singles.append((name, tuple(channels[i] for i in range(num_channels))))
        else:
            singles.extend((formats.stem(file), (file,)) for file in channels.values())
    return singles


# Names


def _image_files(folder: Path, ending: str | None = None) -> list[Path]:
    """Image files of a folder, sorted, hidden ones left out; none if it does not exist."""
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if not _is_hidden(file))
    if ending is None:
        return [file for file in files if formats.is_image(file)]
    return [file for file in files if file.name.endswith(ending)]


def _missing(root: Path, files: Iterable[Path]) -> list[str]:
    return [f"{file} is missing" for file in files if not (root / file).is_file()]


def _name_problems(names: Iterable[str]) -> list[str]:
    problems: list[str] = []
    for name, count in sorted(Counter(names).items()):
        try:
            check_name(name, "case")
        except DataError as error:
            problems.append(error.finding)
        if count > 1:
            problems.append(f"{count} cases are named '{name}'")
    return problems


def _is_hidden(path: Path) -> bool:
    return path.name.startswith((".", "_"))
