"""Tables that readers can sort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autoseg.report.elements import Content, Element, element


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column.

    Attributes:
        title: its head.
        kind: whether it holds text, read from the left, or numbers.
        key: name the script finds the column by, if it changes what it holds.
    """

    title: str
    kind: Literal["text", "number"] = "number"
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """An entry whose order is not that of its text.

    Attributes:
        content: what is shown.
        order: what it is sorted by; None stands last, whichever way.
        mark: class for its looks.
    """

    content: Content
    order: float | str | None = None
    mark: str | None = None


Entry = Cell | Content


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Entry]],
    *,
    caption: str,
    sortable: bool = False,
    name: str | None = None,
) -> Element:
    """A table in a box that scrolls sideways where it is too wide.

    Args:
        columns: from left to right; the first one names the rows.
        rows: as many entries each.
        caption: what it shows, for readers who cannot see where it stands.
        sortable: whether heads are buttons that sort.
        name: id the script finds it by.
    """
    heads = [_head(column, sortable=sortable) for column in columns]
    body = [
        element(
            "tr",
            [
                _entry(e, c, is_first=not i)
                for i, (e, c) in enumerate(zip(row, columns, strict=True))
            ],
        )
        for row in rows
    ]
    kind = "sortable" if sortable else None
    inner = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", heads)),
        element("tbody", body),
        class_=kind,
        id=name,
    )
    # A box that scrolls must be reachable by keyboard.
    return element("div", inner, class_="wide", tabindex="0", role="region", aria_label=caption)


def _head(column: Column, *, sortable: bool) -> Element:
    content: Content = column.title
    if sortable:
        content = element("button", column.title, type="button")
    return element("th", content, scope="col", class_=column.kind, data_key=column.key)


def _entry(entry: Entry, column: Column, *, is_first: bool) -> Element:
    cell = entry if isinstance(entry, Cell) else Cell(content=entry)
    order = f"{cell.order:.6g}" if isinstance(cell.order, float | int) else cell.order
    # Numbers are most of all cells and have no class, which keeps long tables small.
    marks = " ".join(filter(None, ("text" if column.kind == "text" else None, cell.mark)))
    if is_first:
        return element("th", cell.content, scope="row", data_order=order, class_=marks or None)
    return element("td", cell.content, data_order=order, class_=marks or None)
