"""``dataset.json`` as the Decathlon and nnU-Net write it: channels, labels, tables of cases."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import ArtifactError, DataError
from autoseg.io import artifacts
from autoseg.io.layouts.found import Problems

DESCRIPTION = "dataset.json"
_NUMBERED = 'should number the channels from 0, such as {"0": "CT"}'
_FORMS = {
    "channels": 'should list the channels, such as ["CT"]',
    "channel_names": _NUMBERED,
    "modality": _NUMBERED,
}
CHANNEL_KEYS = tuple(_FORMS)
"""Keys that may name the channels; the first that is there counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One case of a table in ``dataset.json``; paths are as written there.

    Args:
        location: JSON path of the entry.
        name: of the case, or None if the label file names it.
        images: image files.
        label: label file.
    """

    location: str
    name: str | None
    images: tuple[Path, ...]
    label: Path


def read(path: Path) -> dict[str, Any]:
    """Read a ``dataset.json``.

    Raises:
        DataError: if it is not readable or not a JSON object.
    """
    try:
        return artifacts.parse_object(path, path.read_text(encoding="utf-8-sig"))
    except ArtifactError as error:
        raise DataError(error.finding, place=error.place) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", place=path) from error


def channels(
    data: Mapping[str, Any], problems: Problems, wanted: str = "channel_names"
) -> tuple[str, ...]:
    """Channel names from ``channels``, ``channel_names`` or ``modality``.

    Args:
        data: the description.
        problems: gets what is wrong.
        wanted: the key to name if there is none.

    Returns:
        The names in order; none if they are unusable.
    """
    key = next((key for key in CHANNEL_KEYS if key in data), None)
    if key is None:
        problems.at(wanted, "missing key")
        return ()
    names = _in_order(data[key])
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        problems.at(key, _FORMS[key])
        return ()
    return tuple(str(name) for name in names)


def _in_order(named: object) -> list[object]:
    if isinstance(named, list):
        return named
    if isinstance(named, dict) and set(named) == {str(i) for i in range(len(named))}:
        return [named[str(i)] for i in range(len(named))]
    return []


def labels(data: Mapping[str, Any], problems: Problems) -> LabelSpace | None:
    """The label space from ``labels``, in either of its two directions, and regions."""
    declared = data.get("labels")
    if "labels" not in data:
        problems.at("labels", "missing key")
    elif not isinstance(declared, dict) or not declared:
        problems.at("labels", 'should name the labels, such as {"background": 0, "kidney": 1}')
    else:
        return _label_space(declared, data.get("regions_class_order"), problems)
    return None


def training_table(data: Mapping[str, Any], problems: Problems) -> list[Entry]:
    """Cases of the Decathlon's ``training`` list; hidden files are left out."""
    rows = data.get("training")
    if not isinstance(rows, list) or not rows:
        problems.at("training", "should list the cases, with 'image' and 'label' each")
        return []
    numbered = ((f"training.{i}", None, row, "image") for i, row in enumerate(rows))
    entries = [entry for row in numbered for entry in _entry(*row, problems)]
    return [entry for entry in entries if not entry.label.name.startswith((".", "_"))]


def case_table(data: Mapping[str, Any], problems: Problems) -> list[Entry]:
    """Cases of nnU-Net's ``dataset`` table."""
    table = data["dataset"]
    if not isinstance(table, dict) or not table:
        problems.at("dataset", "should map each case to its 'images' and its 'label'")
        return []
    named = ((f"dataset.{name}", str(name), row, "images") for name, row in table.items())
    return [entry for row in named for entry in _entry(*row, problems)]


def _entry(
    location: str, name: str | None, row: object, key: str, problems: Problems
) -> Iterator[Entry]:
    if not isinstance(row, dict):
        problems.at(location, f"should be an object with '{key}' and 'label'")
        return
    missing = [wanted for wanted in (key, "label") if wanted not in row]
    for wanted in missing:
        problems.at(f"{location}.{wanted}", "missing key")
    if missing:
        return
    images = [row[key]] if isinstance(row[key], str) else row[key]
    paths = _paths(images), _paths([row["label"]])
    if paths[0] is None or paths[1] is None:
        problems.at(location, f"'{key}' and 'label' should be names of files")
        return
    yield Entry(location=location, name=name, images=paths[0], label=paths[1][0])


def _paths(names: object) -> tuple[Path, ...] | None:
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        return None
    return tuple(Path(os.path.expandvars(name)) for name in names)


def _label_space(
    declared: Mapping[str, object], order: object, problems: Problems
) -> LabelSpace | None:
    values = _values_by_name(declared, problems)
    if values is None:
        return None
    background = _background(values)
    ignore = next((name for name in values if name.casefold() == "ignore"), None)
    structures = [
        Structure(name=name, values=numbers)
        for name, numbers in values.items()
        if name not in (background, ignore)
    ]
    try:
        return LabelSpace(
            structures=tuple(structures),
            background=values[background][0] if background is not None else 0,
            ignore=values[ignore][0] if ignore is not None else None,
            output_values=_output_values(structures, order),
        )
    except ValidationError as error:
        finding = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        problems.at("labels", finding)
        return None


def _values_by_name(
    declared: Mapping[str, object], problems: Problems
) -> dict[str, tuple[int, ...]] | None:
    """File values by label name; the Decathlon writes the names behind the values."""
    if all(isinstance(name, str) for name in declared.values()):
        declared = {str(name): _number(value) for value, name in declared.items()}
    values: dict[str, tuple[int, ...]] = {}
    for name, value in declared.items():
        numbers = [_number(v) for v in (value if isinstance(value, list) else [value])]
        known = tuple(number for number in numbers if number is not None)
        if not known or len(known) < len(numbers):
            problems.at(f"labels.{name}", "should be a whole number or a list of them")
            return None
        values[name] = known
    return values


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _background(values: Mapping[str, tuple[int, ...]]) -> str | None:
    by_name = (name for name in values if name.casefold() == "background")
    by_value = (name for name, numbers in values.items() if numbers == (0,))
    return next(by_name, None) or next(by_value, None)


def _output_values(structures: Sequence[Structure], order: object) -> tuple[int, ...] | None:
    """``regions_class_order`` where structures are regions; elsewhere it means nothing."""
    if all(len(structure.values) == 1 for structure in structures) or order is None:
        return None
    numbers = [_number(value) for value in order] if isinstance(order, list) else []
    return tuple(number for number in numbers if number is not None)
