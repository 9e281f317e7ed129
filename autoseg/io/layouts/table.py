"""A table of cases: ``cases.csv`` and the few lines of ``dataset.json`` beside it."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoseg.core.dataset import Case, Split
from autoseg.core.labels import LabelSpace
from autoseg.errors import DataError
from autoseg.io import atomic, dataset_json
from autoseg.io.fold_folder import check_name
from autoseg.io.layouts.case_rows import (
    ANNOTATED,
    CASE,
    GROUP,
    IMAGE,
    LABEL,
    RESERVED,
    SPLIT,
    TEST,
    Cells,
    column_key,
    read_rows,
)
from autoseg.io.layouts.found import Found, Problems
from autoseg.io.layouts.named_structures import DIVIDER, find_structures

CASES = "cases.csv"
"""Name of the table if the description does not give another."""


def root_of(description: Path) -> Path:
    """The folder of raw data that a description speaks of.

    Args:
        description: a ``dataset.json``; without ``root`` it speaks of the folder it lies in.

    Returns:
        The absolute folder, which need not exist.

    Raises:
        DataError: if the description cannot be read.
    """
    root = dataset_json.read(description).get("root")
    return _root(description, root if isinstance(root, str) else ".")


def is_table(data: Mapping[str, Any], *, has_cases: bool) -> bool:
    """Whether a description is that of a table.

    Args:
        data: the description.
        has_cases: whether ``cases.csv`` lies beside it.
    """
    has_other_list = bool({"dataset", "training"} & set(data))
    is_here = "cases" in data or (has_cases and "file_ending" not in data)
    return is_here and not has_other_list


def read_table(data: Mapping[str, Any], problems: Problems) -> Found:
    """Read a table of cases.

    Args:
        data: the description.
        problems: gets what is wrong with description and table, and knows where they lie.

    Returns:
        The cases that are complete in the table, those for testing left out.
    """
    channels = dataset_json.channels(data, problems, wanted="channels")
    labels = dataset_json.labels(data, problems)
    name = _text(data, "name", problems)
    if name is not None:
        name = _task_name(name, problems)
    root = _text(data, "root", problems)
    file = problems.description.parent / (_text(data, "cases", problems) or CASES)
    rows = read_rows(file, channels, problems) if channels else []
    _tell_doubled(rows, file, problems)
    used = [row for row in rows if row.split != TEST]
    return Found(
        layout="table",
        channels=channels,
        labels=labels,
        cases=tuple(_case(row, _annotated(row, labels, file, problems)) for row in used),
        folds=_folds(rows, file, problems),
        name=name,
        root=_root(problems.description, root or "."),
    )


def write_table(
    description: Path,
    *,
    name: str,
    root: Path,
    channels: Sequence[str],
    labels: LabelSpace,
    cases: Sequence[Case],
    folds: Sequence[Split] | None = None,
) -> None:
    """Write a description and, beside it, the table of cases; reading them gives the same back.

    Args:
        description: the ``.json`` file; ``cases.csv`` is written into its folder.
        name: the task's name.
        root: folder of the raw data.
        channels: names of the channels, in order.
        labels: what the label values mean.
        cases: image and label files, relative to the root or absolute.
        folds: the folds the data came with; every case must be held out by one of them.

    Raises:
        AutosegError: if a file cannot be written.
        ValueError: if a table cannot hold it: channels named like other columns or like each
            other in files of their own, folds that do not hold out every case once, annotated
            structures with a ``|`` in their names.
    """
    root = root.resolve()
    table = _table_text(root, channels, cases, _fold_numbers(cases, folds))
    data: dict[str, Any] = {"name": name}
    if description.resolve().parent != root:
        data["root"] = root.as_posix()
    data |= {"channels": list(channels), "labels": _declared(labels), "cases": CASES}
    if labels.output_values is not None:
        data["regions_class_order"] = list(labels.output_values)
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items()]
    # The description comes last: where it is, the table is complete.
    atomic.write_text(description.parent / CASES, table)
    atomic.write_text(description, "{\n" + ",\n".join(lines) + "\n}\n")


# Reading


def _text(data: Mapping[str, Any], key: str, problems: Problems) -> str | None:
    value = data.get(key)
    if key in data and not (isinstance(value, str) and value.strip() and value.isprintable()):
        problems.at(key, "should be text")
        return None
    return value


def _task_name(name: str, problems: Problems) -> str | None:
    try:
        return check_name(name, "task")
    except DataError as error:
        problems.at("name", error.finding)
        return None


def _root(description: Path, root: str) -> Path:
    return (description.parent / Path(root.replace("\\", "/")).expanduser()).resolve()


def _case(row: Cells, annotated: tuple[str, ...] | None) -> Case:
    return Case(
        name=row.case,
        images=tuple(_path(image) for image in row.images),
        label=_path(row.label),
        group=row.group,
        annotated=annotated,
    )


def _annotated(
    row: Cells, labels: LabelSpace | None, file: Path, problems: Problems
) -> tuple[str, ...] | None:
    """What a line says was annotated; None for all, or if it cannot be understood."""
    if not row.annotated or labels is None:
        return None
    names, findings = find_structures(row.annotated, labels.names)
    for finding in findings:
        told = f"line {row.line}: {ANNOTATED}: {finding}"
        problems.add("description", told, file, case=row.case)
    return None if findings or len(names) == len(labels.names) else names


def _path(cell: str) -> Path:
    return Path(cell.replace("\\", "/"))


def _tell_doubled(rows: Sequence[Cells], file: Path, problems: Problems) -> None:
    counts = Counter(row.case for row in rows)
    seen: set[str] = set()
    for row in rows:
        if row.case in seen:
            finding = f"line {row.line}: the case is in the table {counts[row.case]} times"
            problems.add("description", finding, file, case=row.case)
        seen.add(row.case)


def _folds(rows: Sequence[Cells], file: Path, problems: Problems) -> tuple[Split, ...] | None:
    """The folds of the column ``split``; None if it leaves the dealing to autoseg."""
    dealt = [row for row in rows if row.split != TEST]
    numbers = {row.case: int(row.split) for row in dealt if row.split.isdecimal()}
    if not numbers:
        return None
    complete = True
    for row in dealt:
        if not row.split:
            complete = False
            finding = f"line {row.line}: no {SPLIT}, though other cases have one"
            problems.add("description", finding, file, case=row.case)
    present = sorted(set(numbers.values()))
    if present != list(range(len(present))) or len(present) < 2:
        given = ", ".join(map(str, present[:5]))
        finding = f"{SPLIT}: there should be folds 0, 1 and so on, found {given}"
        problems.add("description", finding, file)
        return None
    return tuple(_fold(numbers, number) for number in present) if complete else None


def _fold(numbers: Mapping[str, int], fold: int) -> Split:
    return Split(
        train=tuple(sorted(name for name, number in numbers.items() if number != fold)),
        validation=tuple(sorted(name for name, number in numbers.items() if number == fold)),
    )


# Writing


def _declared(labels: LabelSpace) -> dict[str, int | list[int]]:
    values: dict[str, int | list[int]] = {"background": labels.background}
    for structure in labels.structures:
        is_region = len(structure.values) > 1
        values[structure.name] = list(structure.values) if is_region else structure.values[0]
    return values if labels.ignore is None else values | {"ignore": labels.ignore}


def _fold_numbers(cases: Sequence[Case], folds: Sequence[Split] | None) -> dict[str, int]:
    if folds is None:
        return {}
    names = {case.name for case in cases}
    numbers = {name: number for number, fold in enumerate(folds) for name in fold.validation}
    num_held_out = sum(len(fold.validation) for fold in folds)
    is_partition = all({*fold.train, *fold.validation} == names for fold in folds)
    if set(numbers) != names or num_held_out != len(names) or not is_partition:
        raise ValueError("a table holds only folds that hold out every case once")
    return numbers


def _table_text(
    root: Path, channels: Sequence[str], cases: Sequence[Case], numbers: Mapping[str, int]
) -> str:
    header = [CASE, *_image_columns(channels, cases), LABEL]
    header += [GROUP] if any(case.group is not None for case in cases) else []
    header += [SPLIT] if numbers else []
    header += [ANNOTATED] if any(case.annotated is not None for case in cases) else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for case in cases:
        cells = {CASE: case.name, LABEL: _written(case.label, root), GROUP: case.group or ""}
        cells[SPLIT] = str(numbers.get(case.name, ""))
        cells[ANNOTATED] = _listed(case.annotated or ())
        columns = [IMAGE] if len(case.images) == 1 and IMAGE in header else channels
        cells |= dict(zip(columns, (_written(p, root) for p in case.images), strict=True))
        writer.writerow([cells.get(column, "") for column in header])
    return text.getvalue()


def _listed(names: Sequence[str]) -> str:
    if any(DIVIDER in name for name in names):
        raise ValueError(f"a table cannot list structures with '{DIVIDER}' in their names")
    return DIVIDER.join(names)


def _image_columns(channels: Sequence[str], cases: Sequence[Case]) -> list[str]:
    """One column per channel if a case has a file for each, one for all if a case has one."""
    counts = {len(case.images) for case in cases}
    columns = [IMAGE] if 1 in counts else []
    if counts <= {1}:
        return columns
    keys = [column_key(channel) for channel in channels]
    if len(set(keys)) < len(keys) or RESERVED & set(keys):
        raise ValueError(f"channels {list(channels)} cannot be names of columns")
    return [*columns, *channels]


def _written(path: Path, root: Path) -> str:
    absolute = root / path
    inside = absolute.relative_to(root) if absolute.is_relative_to(root) else absolute
    return inside.as_posix()
