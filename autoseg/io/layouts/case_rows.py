"""The lines of ``cases.csv``, as spreadsheets of any country write them."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.io.layouts.found import Problems

CASE, IMAGE, LABEL, GROUP, SPLIT = "case", "image", "label", "group", "split"
ANNOTATED = "annotated"
TEST = "test"
"""The ``split`` of cases that are kept out of training altogether."""
_ALIASES = {"patient": GROUP}
RESERVED = frozenset({CASE, IMAGE, LABEL, GROUP, SPLIT, ANNOTATED, *_ALIASES})
"""Columns that cannot be channels."""
_DELIMITERS = ",;\t"
_IGNORED = ("#", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """A line of the table.

    Attributes:
        line: its number in the file, from 1.
        case: name of the case.
        images: one path per channel, or a single one, as written.
        label: path of the label map, as written.
        group: what must not be split over folds, if it is given.
        split: a fold's number, ``"test"`` or nothing.
        annotated: names of the structures that were annotated, as written; nothing for all.
    """

    line: int
    case: str
    images: tuple[str, ...]
    label: str
    group: str | None
    split: str
    annotated: str


def column_key(name: str) -> str:
    """A column's name as columns are compared: upper or lower case does not matter."""
    return name.strip().casefold()


def read_rows(file: Path, channels: Sequence[str], problems: Problems) -> list[Cells]:
    """Read a table of cases.

    Args:
        file: the CSV file: comma, semicolon or tab; blank lines and those that begin with ``#``
            are skipped.
        channels: names of the channels.
        problems: gets what is wrong, with the number of the line.

    Returns:
        The lines in which nothing is missing.
    """
    lines = _lines(file, problems)
    if not lines:
        return []
    header = _Header(lines[0][1], channels)
    findings = list(header.findings())
    for finding in findings:
        problems.add("description", finding, file)
    if findings:
        return []
    if len(lines) == 1:
        problems.add("description", "no case below the names of the columns", file)
    rows = (_Row(line, cells, header) for line, cells in lines[1:])
    return [row.checked() for row in rows if not row.tell(file, problems)]


class _Header:
    """Which column holds what.

    Attributes:
        keys: of the columns, in order.
        separate: keys of the channels if they have columns of their own, else nothing.
    """

    def __init__(self, names: Sequence[str], channels: Sequence[str]) -> None:
        self.keys = [_ALIASES.get(column_key(name), column_key(name)) for name in names]
        channel_keys = [column_key(channel) for channel in channels]
        has_own = any(key in self.keys for key in channel_keys if key not in RESERVED)
        self.separate = channel_keys if has_own else []
        self._names, self._channels = names, channels

    def findings(self) -> Iterator[str]:
        """What is wrong with the names of the columns."""
        known = {*RESERVED, *map(column_key, self._channels)}
        for name, key in zip(self._names, self.keys, strict=True):
            if key not in known and not key.startswith(_IGNORED):
                yield f"unknown column '{name.strip()}'{_suggestion(key, known)}"
        for key in dict.fromkeys(self.keys):
            if self.keys.count(key) > 1 and key in known:
                yield f"{self.keys.count(key)} columns mean '{key}'"
        for key in (CASE, LABEL):
            if key not in self.keys:
                yield f"no column '{key}'"
        yield from self._image_findings()

    def _image_findings(self) -> Iterator[str]:
        for key, channel in zip(self.separate, self._channels, strict=False):
            if key not in self.keys:
                yield f"no column '{channel}'"
        if not self.separate and IMAGE not in self.keys:
            yield f"no column for the images: '{IMAGE}', or one per channel, '{self._channels[0]}'"
        if len(set(self.separate)) < len(self.separate) or RESERVED & set(self.separate):
            yield "two channels, or a channel and another column, have one name"


class _Row:
    """A line and what its cells mean."""

    def __init__(self, line: int, cells: Sequence[str], header: _Header) -> None:
        self.line, self.header = line, header
        self.size = len(cells)
        self.cells: Mapping[str, str] = {
            key: cell.strip() for key, cell in zip(header.keys, cells, strict=False)
        }

    def checked(self) -> Cells:
        return Cells(
            line=self.line,
            case=self.cells[CASE],
            images=tuple(self._images()),
            label=self.cells[LABEL],
            group=self.cells.get(GROUP) or None,
            split=self.cells.get(SPLIT, "").lower(),
            annotated=self.cells.get(ANNOTATED, ""),
        )

    def tell(self, file: Path, problems: Problems) -> bool:
        """Add what is wrong with the line, and say whether anything is."""
        case = self.cells.get(CASE) or None
        found = list(self._findings())
        for kind, finding in found:
            problems.add(kind, f"line {self.line}: {finding}", file, case=case)
        return bool(found)

    def _findings(self) -> Iterator[tuple[str, str]]:
        if self.size != len(self.header.keys):
            yield "description", f"{self.size} cells under {len(self.header.keys)} columns"
            return
        if not self.cells[CASE]:
            yield "description", f"'{CASE}' is empty"
        split = self.cells.get(SPLIT, "").lower()
        if split == TEST:
            return
        if split and not (split.isascii() and split.isdecimal()):
            yield "description", f"{SPLIT} '{split}' is no fold's number and not '{TEST}'"
        if not self.cells[LABEL]:
            yield "missing-label", f"'{LABEL}' is empty"
        yield from self._image_findings()

    def _image_findings(self) -> Iterator[tuple[str, str]]:
        if self.cells.get(IMAGE):
            return
        keys = self.header.separate or [IMAGE]
        empty = [key for key in keys if not self.cells[key]]
        kind = "missing-image" if len(empty) == len(keys) else "missing-channel"
        for key in empty:
            yield kind, f"'{key}' is empty"

    def _images(self) -> Iterable[str]:
        if self.cells.get(IMAGE):
            return [self.cells[IMAGE]]
        return [self.cells[key] for key in self.header.separate]


def _lines(file: Path, problems: Problems) -> list[tuple[int, list[str]]]:
    """Lines with their numbers, the names of the columns first; none if it is unreadable."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problems.add("description", "missing", file)
        return []
    except UnicodeDecodeError:
        problems.add("description", "not in UTF-8: save it as 'CSV UTF-8'", file)
        return []
    except OSError as error:
        problems.add("description", f"cannot be read ({error.strerror})", file)
        return []
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text))
    lines: list[tuple[int, list[str]]] = []
    try:
        lines.extend((reader.line_num, cells) for cells in reader if _counts(cells))
    except csv.Error as error:
        problems.add("description", f"line {reader.line_num}: {error}", file)
        return []
    if not lines:
        problems.add("description", "empty", file)
    return lines


def _counts(cells: Sequence[str]) -> bool:
    return any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#")


def _delimiter(text: str) -> str:
    """What divides the names of the columns into most parts."""
    lines = (line for line in text.splitlines() if line.strip())
    header = next((line for line in lines if not line.lstrip().startswith("#")), "")
    return max(_DELIMITERS, key=lambda d: len(next(csv.reader([header], delimiter=d), [])))


def _suggestion(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
