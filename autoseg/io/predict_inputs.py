"""Images to segment and label maps to score, however their folders are laid out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from autoseg.core.words import counted
from autoseg.errors import DataError
from autoseg.io import formats
from autoseg.io.dataset_folder import name_findings
from autoseg.io.layouts.brats import candidates
from autoseg.io.layouts.case_folders import look_into
from autoseg.io.layouts.folder_tree import FolderTree, ImageName
from autoseg.io.layouts.nnunet import CHANNEL_NUMBER
from autoseg.io.readers.dicom_files import find_series

_SEGMENTATION = ".seg.nrrd"

Input = tuple[str, tuple[Path, ...]]
"""Name and image files of a case."""


def predict_inputs(path: Path, num_channels: int) -> list[Input]:
    """Find the images to segment.

    Files ``<case>_0000.*``, ``<case>_0001.*``, ... are the channels of one case if there is
    exactly one for every channel; any other image file is a case of its own. The label map of a
    case folder is no image.

    Args:
        path: an image (a file, or the folder of a DICOM series), a case folder as in KiTS or
            BraTS, or a folder of any of them; DICOM series are found at any depth and named by
            the folders they are in.
        num_channels: how many channels the model needs.

    Returns:
        Name and image files of each case, sorted by name.

    Raises:
        DataError: if nothing there can be segmented, or two cases would have one name.
    """
    path = path.expanduser()
    if not path.exists():
        raise DataError("no such file or folder", place=path)
    is_file = path.is_file()
    found = _in_file(path, num_channels) if is_file else _in_folder(path, num_channels)
    if not found:
        looked_for = f"{', '.join(formats.suffixes())}, DICOM series or case folders"
        raise DataError(f"no images found (looked for {looked_for})", place=path)
    counts = Counter(name for name, _ in found)
    for name, count in sorted(counts.items()):
        for finding in name_findings(name, count):
            raise DataError(finding, place=path, remedy="rename one of them")
    return sorted(found)


def label_files(folder: Path) -> dict[str, Path]:
    """Find the label maps of a folder: image files, or case folders as in KiTS and BraTS.

    Returns:
        The file of each case, by name.

    Raises:
        DataError: if there is no such folder, no label map in it, or two of one case.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError("no such folder", place=folder)
    found: dict[str, list[Path]] = defaultdict(list)
    for name, path in _labels_in(folder):
        found[name].append(path)
    if not found:
        raise DataError("no label maps found", place=folder)
    _refuse_several(folder, found)
    return {name: paths[0] for name, paths in found.items()}


def _labels_in(folder: Path) -> Iterator[tuple[str, Path]]:
    tree = FolderTree(folder)
    own = _case_labels(tree, "")
    if own:
        yield from ((folder.resolve().name, path) for path in own)
        return
    for child in candidates(tree):
        yield from ((Path(child).name, path) for path in _case_labels(tree, child))
    yield from ((image.stem, folder / image.name) for image in _label_maps(tree.images()))


def _case_labels(tree: FolderTree, folder: str) -> list[Path]:
    """Label maps of a case folder, one in good order; none if it is no case or has none."""
    case = look_into(tree, folder)
    if case is None or case.label is None:
        return []
    stem = formats.stem(case.label).lower()
    same = [image for image in tree.images(folder) if image.stem.lower() == stem]
    return [tree.root / folder / image.name for image in _label_maps(same)]


def _label_maps(images: Sequence[ImageName]) -> list[ImageName]:
    """All but the images that lie beside a segmentation of their name, as 3D Slicer saves them."""
    segmented = {image.stem for image in images if image.suffix.lower() == _SEGMENTATION}
    return [i for i in images if i.stem not in segmented or i.suffix.lower() == _SEGMENTATION]


def _refuse_several(folder: Path, found: Mapping[str, Sequence[Path]]) -> None:
    several = sorted(name for name, paths in found.items() if len(paths) > 1)
    if several:
        paths = (path.relative_to(folder).as_posix() for path in found[several[0]])
        more = f" (and {counted(len(several) - 1, 'more case')})" if len(several) > 1 else ""
        raise DataError(
            f"several label maps of '{several[0]}': {', '.join(paths)}{more}",
            place=folder,
            remedy="keep one of each case there",
        )


# Folders


def _in_folder(folder: Path, num_channels: int) -> list[Input]:
    if formats.is_series(folder):
        return [(folder.resolve().name, (folder,))]
    tree = FolderTree(folder)
    own = _case_images(tree, "")
    if own:
        return [(folder.resolve().name, own)]
    found = _group_channels([folder / image.name for image in tree.images()], num_channels)
    for child in candidates(tree):
        found.extend(_in_child(tree, child))
    return found


def _in_child(tree: FolderTree, child: str) -> Iterator[Input]:
    images = _case_images(tree, child)
    if images:
        yield Path(child).name, images
        return
    for series in find_series(tree.root / child):
        yield "_".join(series.relative_to(tree.root).parts), (series,)


def _case_images(tree: FolderTree, folder: str) -> tuple[Path, ...]:
    """Images of a case folder; none if it is not one."""
    case = look_into(tree, folder)
    paths = () if case is None else tuple(tree.root / folder / image for image in case.images)
    return paths if all(path.is_file() or formats.is_series(path) for path in paths) else ()


# Files


def _in_file(file: Path, num_channels: int) -> list[Input]:
    match = CHANNEL_NUMBER.fullmatch(formats.stem(file))
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


def _group_channels(files: Sequence[Path], num_channels: int) -> list[Input]:
    groups: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    found: list[Input] = []
    for file in files:
        match = CHANNEL_NUMBER.fullmatch(formats.stem(file))
        if match is None:
            found.append((formats.stem(file), (file,)))
        else:
            groups[match[1]].append((int(match[2]), file))
    for name, numbered in groups.items():
        found.extend(_cases_of_group(name, numbered, num_channels))
    return found


def _cases_of_group(
    name: str, numbered: Sequence[tuple[int, Path]], num_channels: int
) -> list[Input]:
    """One case if the files are its channels, whatever their formats; else a case per file."""
    if _are_channels(numbered, num_channels):
        return [(name, tuple(file for _, file in sorted(numbered)))]
    # The same channels in two formats are two cases of one name, which is told.
    by_suffix: Mapping[str | None, list[tuple[int, Path]]] = defaultdict(list)
    for number, file in numbered:
        by_suffix[formats.suffix_of(file)].append((number, file))
    found: list[Input] = []
    for group in by_suffix.values():
        if _are_channels(group, num_channels):
            found.append((name, tuple(file for _, file in sorted(group))))
        else:
            found.extend((formats.stem(file), (file,)) for _, file in group)
    return found


def _are_channels(numbered: Sequence[tuple[int, Path]], num_channels: int) -> bool:
    return sorted(number for number, _ in numbered) == list(range(num_channels))
