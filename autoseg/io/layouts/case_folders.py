"""A folder per case, as in KiTS and BraTS: the names of the files say what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.core.dataset import Case
from autoseg.core.labels import LabelSpace, Structure
from autoseg.io import dataset_json
from autoseg.io.layouts import brats
from autoseg.io.layouts.folder_tree import FolderTree
from autoseg.io.layouts.found import Found, Problems

IMAGE_STEM, LABEL_STEM = "imaging", "segmentation"
_CHANNELS = ("CT",)
_STRUCTURES = (Structure(name="kidney", values=(1,)), Structure(name="tumour", values=(2,)))
_LABELS = LabelSpace(structures=_STRUCTURES)
_PREFIX = "case_"
_ENDING = ".nii.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFolder:
    """What the names in a folder say.

    Attributes:
        images: image files in the order of their channels, relative to the folder.
        label: the label map, relative to the folder, if there is one.
    """

    images: tuple[Path, ...]
    label: Path | None


def read_case_folders(
    tree: FolderTree, data: Mapping[str, Any] | None, problems: Problems
) -> Found | None:
    """Read folders with one case each.

    Args:
        tree: the folder they are in.
        data: a ``dataset.json`` beside them, whose channels and labels then count.
        problems: gets what is wrong with it.

    Returns:
        The cases; None if these are no case folders.
    """
    described = data or {}
    scans, folders = brats.find_scans(tree), _kits_folders(tree)
    if len(scans) > len(folders):
        return brats.read_scans(scans, described, problems)
    if not folders:
        return None
    has_channels = any(key in described for key in dataset_json.CHANNEL_KEYS)
    return Found(
        layout="case_folders",
        channels=dataset_json.channels(described, problems) if has_channels else _CHANNELS,
        labels=dataset_json.labels(described, problems) if "labels" in described else _LABELS,
        cases=tuple(_kits_case(tree, folder) for folder in folders),
    )


def look_into(tree: FolderTree, folder: str) -> CaseFolder | None:
    """What a single folder holds if it is a case.

    Args:
        tree: the folder it is in.
        folder: its name, or a path below the tree's root.

    Returns:
        The files that are there; None if their names are not those of a case.
    """
    image, label = _kits_image(tree, folder), _kits_label(tree, folder)
    if image is not None or label is not None:
        return CaseFolder(
            images=() if image is None else (Path(image),),
            label=None if label is None else Path(label),
        )
    scan = brats.look_into(tree, folder)
    if scan is None:
        return None
    return CaseFolder(
        images=tuple(Path(scan.channels[c]) for c in brats.CHANNELS if c in scan.channels),
        label=None if scan.label is None else Path(scan.label),
    )


def _kits_folders(tree: FolderTree) -> Sequence[str]:
    """Case folders; those that are only named so count where others hold the files, too."""
    folders = tree.folders()
    certain = {
        folder for folder in folders if _kits_image(tree, folder) or _kits_label(tree, folder)
    }
    if not certain:
        return []
    return [folder for folder in folders if folder in certain or folder.startswith(_PREFIX)]


def _kits_case(tree: FolderTree, folder: str) -> Case:
    image = _kits_image(tree, folder) or IMAGE_STEM + _ENDING
    label = _kits_label(tree, folder) or LABEL_STEM + _ENDING
    return Case(name=folder, images=(Path(folder, image),), label=Path(folder, label))


def _kits_image(tree: FolderTree, folder: str) -> str | None:
    """Name of the image: a file, or the folder of a DICOM series."""
    file = _named(tree, folder, IMAGE_STEM)
    series = (name for name in tree.folders(folder) if name.lower() == IMAGE_STEM)
    return file or next(series, None)


def _kits_label(tree: FolderTree, folder: str) -> str | None:
    return _named(tree, folder, LABEL_STEM)


def _named(tree: FolderTree, folder: str, stem: str) -> str | None:
    images = tree.images(folder)
    return next((image.name for image in images if image.stem.lower() == stem), None)
