"""Folders of raw data, in every layout people have them, as a ``Dataset``.

Only names are read, no voxels, and nothing is written. The layouts are in ``io.layouts``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from autoseg.core.dataset import Case, Dataset, Split
from autoseg.core.problem import KINDS, Problem, in_words
from autoseg.errors import DataError
from autoseg.io import dataset_json, formats
from autoseg.io.dataset_json import DESCRIPTION
from autoseg.io.fold_folder import check_name
from autoseg.io.layouts import table
from autoseg.io.layouts.case_folders import read_case_folders
from autoseg.io.layouts.decathlon import lists_numbered_files, read_decathlon
from autoseg.io.layouts.folder_tree import FolderTree, is_shown
from autoseg.io.layouts.found import Found, Problems
from autoseg.io.layouts.nnunet import IMAGES, read_nnunet

_NUM_TOLD = 5
_NUM_FOLDERS_TO_LOOK_AT = 200
_LISTS = "autoseg check TASK lists them all"
_HELPS = "autoseg check TASK says what mends them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A folder of raw data and all that is wrong with its names.

    Attributes:
        dataset: the cases nothing is wrong with; None if the folder is in no layout autoseg
            knows, or its description is unusable.
        problems: everything that is wrong, files with their absolute paths; in the order of
            ``KINDS``, within a kind by case.
    """

    dataset: Dataset | None
    problems: tuple[Problem, ...]


def survey_dataset(folder: Path, description: Path | None = None) -> Survey:
    """Find out what a folder of annotated images holds, and everything that is wrong with it.

    Only names are read, no voxels.

    Args:
        folder: the folder; its name becomes the task's, unless a description names it.
        description: the ``dataset.json`` of a table of cases that lies elsewhere.

    Raises:
        DataError: if there is no such folder, or a folder cannot be listed.
    """
    root = _existing(folder)
    file = (description or root / DESCRIPTION).expanduser().resolve()
    problems = Problems(file)
    try:
        data = dataset_json.read(file) if file.is_file() or description else None
    except DataError as error:
        problems.add("description", error.finding, file)
        return Survey(dataset=None, problems=tuple(problems))
    tree = FolderTree(root)
    if description is None:
        found = _read_layout(tree, data, problems)
    else:
        found = table.read_table(data or {}, problems)
    dataset = None if found is None else _dataset(found, tree, problems)
    return Survey(dataset=dataset, problems=_sorted(problems))


def find_dataset(folder: Path, description: Path | None = None) -> Dataset:
    """Find out what a folder of annotated images holds, and refuse one with errors.

    Args:
        folder: as ``survey_dataset`` takes it.
        description: as ``survey_dataset`` takes it.

    Returns:
        The data set, its cases sorted by name.

    Raises:
        DataError: if it is no data set, or anything in it is missing or contradictory: all
            problems at once, the first few with their file names.
    """
    survey = survey_dataset(folder, description)
    errors = [problem for problem in survey.problems if problem.is_error]
    if errors:
        raise _refusal(folder.expanduser().resolve(), errors)
    assert survey.dataset is not None
    return survey.dataset


def _existing(folder: Path) -> Path:
    root = folder.expanduser().resolve()
    if not root.is_dir():
        finding = "is a file, not the folder of a data set" if root.exists() else "no such folder"
        raise DataError(finding, place=folder)
    return root


# Layouts


def _read_layout(
    tree: FolderTree, data: Mapping[str, Any] | None, problems: Problems
) -> Found | None:
    keys = set(data or {})
    if data is not None and table.is_table(data, has_cases=tree.has_file(table.CASES)):
        return table.read_table(data, problems)
    has_list, has_images = bool({"dataset", "training"} & keys), tree.has_folder(IMAGES)
    if not has_list and not has_images:
        found = read_case_folders(tree, data, problems)
        if found is not None:
            return found
    if data is None:
        problems.add("description", _unknown(tree.root), tree.root)
        return None
    if "channels" in data and not has_list and not has_images:
        return table.read_table(data, problems)
    is_decathlon = "training" in data and not {"dataset", "file_ending"} & keys
    if is_decathlon and not lists_numbered_files(tree, data):
        return read_decathlon(tree, data, problems)
    return read_nnunet(tree, data, problems)


def _unknown(root: Path) -> str:
    image = _any_image(root)
    if image is None:
        return (
            f"not a data set: found neither {DESCRIPTION}, nor case folders as in KiTS or BraTS, "
            "nor any image; choose the folder that holds them"
        )
    return (
        f"holds images such as {image.relative_to(root).as_posix()}, but neither {DESCRIPTION} "
        "nor case folders as in KiTS or BraTS"
    )


def _any_image(root: Path) -> Path | None:
    """Some image in a folder or below; a folder is one if it holds a DICOM series."""
    for folder, folders, files in islice(os.walk(root), _NUM_FOLDERS_TO_LOOK_AT):
        folders[:] = sorted(filter(is_shown, folders))
        images = (Path(folder, name) for name in sorted(files))
        found = next(filter(formats.is_image, images), None)
        if found is None and Path(folder) != root and formats.is_series(Path(folder)):
            found = Path(folder)
        if found is not None:
            return found
    return None


# Cases


def _dataset(found: Found, tree: FolderTree, problems: Problems) -> Dataset | None:
    """The data set without the cases that have errors."""
    root = found.root or tree.root
    if not _is_folder(root):
        problems.at("root", f"there is no folder {root}")
        return None
    _tell_names(found.cases, root, problems)
    _tell_missing(found, tree if root == tree.root else FolderTree(root), problems)
    if not found.channels or found.labels is None:
        return None
    wrong = {problem.case for problem in problems if problem.is_error}
    cases = sorted((c for c in found.cases if c.name not in wrong), key=lambda case: case.name)
    lies_elsewhere = found.layout == "table" and problems.description.parent != root
    return Dataset(
        name=found.name or root.name,
        root=root,
        layout=found.layout,
        channels=found.channels,
        labels=found.labels,
        cases=tuple(cases),
        folds=_folds_of(found.folds, {case.name for case in cases}),
        description=problems.description if lies_elsewhere else None,
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, or a folder nobody may enter
        return False


def _tell_names(cases: Sequence[Case], root: Path, problems: Problems) -> None:
    known = {problem.case for problem in problems if problem.is_error}
    counts = Counter(case.name for case in cases)
    labels = {case.name: root / case.label for case in cases if case.name not in known}
    for name, label in labels.items():
        for finding in name_findings(name, counts[name]):
            problems.add("name", finding, label, case=name)


def name_findings(name: str, count: int) -> Iterator[str]:
    """What is wrong with the name of a case.

    Args:
        name: the name.
        count: how many cases have it.
    """
    try:
        check_name(name, "case")
    except DataError as error:
        yield error.finding
    if count > 1:
        yield f"{count} cases are named '{name}'"


def _tell_missing(found: Found, tree: FolderTree, problems: Problems) -> None:
    for case in found.cases:
        missing = [i for i, image in enumerate(case.images) if not tree.has(image)]
        if len(missing) == len(case.images):
            problems.add("missing-image", "missing", tree.root / case.images[0], case=case.name)
        else:
            for i in missing:
                finding = _missing_channel(found, case, i)
                problems.add("missing-channel", finding, tree.root / case.images[i], case=case.name)
        if not tree.has(case.label):
            problems.add("missing-label", "missing", tree.root / case.label, case=case.name)


def _missing_channel(found: Found, case: Case, number: int) -> str:
    is_named = len(case.images) == len(found.channels)
    return f"missing ({found.channels[number]})" if is_named else "missing"


def _folds_of(folds: Sequence[Split] | None, names: set[str]) -> tuple[Split, ...] | None:
    if folds is None:
        return None
    return tuple(
        Split(
            train=tuple(name for name in fold.train if name in names),
            validation=tuple(name for name in fold.validation if name in names),
        )
        for fold in folds
    )


# Words


def _sorted(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    order = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(sorted(problems, key=lambda p: (order[p.kind], p.case or "")))


def _refusal(root: Path, errors: Sequence[Problem]) -> DataError:
    rest = len(errors) - _NUM_TOLD
    told = ", ".join(in_words(problem, root) for problem in errors[:_NUM_TOLD])
    more = f", and {rest} more" if rest > 0 else ""
    count = f"{len(errors)} problems: " if len(errors) > 1 else ""
    kinds = {problem.kind for problem in errors}
    remedy = KINDS[errors[0].kind].remedy if len(kinds) == 1 else _HELPS
    return DataError(f"{count}{told}{more}", place=root, remedy=_LISTS if rest > 0 else remedy)
