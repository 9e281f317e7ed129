"""Charts as SVG: lines over epochs, scores as dots and boxes, means with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

import numpy as np

from autoseg.report.elements import Element, element
from autoseg.report.quantities import plain

WIDTH = 460
HEIGHT = 240
MOST_POINTS = 160
"""Of a curve; longer ones are thinned."""

MOST_DOTS = 200
"""Of a row; of more, evenly spaced ranks are shown. The box is of all values."""

MOST_DOTS_OF_ALL = 1600
"""Of all rows of a chart together."""

MOST_NAMED_DOTS = 1200
"""Of a chart; with more, dots do not tell whose they are."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 34
_LETTER = 6.4
_ROW = 34
_LONGEST_NAME = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line.

    Attributes:
        name: for the legend.
        x: positions.
        y: values; None where there is none.
        colour: number of its colour.
        dashed: whether it is.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One row of dots with a box: quartiles and median.

    Attributes:
        name: of the row.
        values: at least one.
        names: of the values.
        colour: number of its colour.
    """

    name: str
    values: Sequence[float]
    names: Sequence[str]
    colour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """One row with a mean and its interval.

    Attributes:
        name: of the row.
        value: the mean.
        interval: around it, if there is one.
        text: both in words.
        colour: number of its colour.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    text: str
    colour: int


def curves(
    lines: Sequence[Curve], *, title: str, x_title: str, range_: tuple[float, float] | None = None
) -> Element:
    """Lines over a common axis of whole numbers.

    Args:
        lines: at least one value among them.
        title: what they show.
        x_title: of the axis below.
        range_: lowest and highest value of the axis at the left; that of the values by default.
    """
    values = [v for line in lines for v in line.y if v is not None and isfinite(v)]
    low, high = range_ or (min(values, default=0.0), max(values, default=1.0))
    across = [v for line in lines for v in line.x]
    right = _Axis(min(across), max(across), _LEFT, WIDTH - _RIGHT)
    up = _Axis(low, high, HEIGHT - _BOTTOM, _TOP).widened(fixed=range_ is not None)
    parts: list[Element] = [*_grid_across(up), *_marks_below(right, HEIGHT - _BOTTOM, whole=True)]
    parts += [_curve(line, right, up) for line in lines]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(_text(x_title, middle, HEIGHT - 4, "middle"))
    names = ", ".join(dict.fromkeys(line.name for line in lines))
    svg = _svg(parts, WIDTH, HEIGHT, f"{title} over {x_title}s: {names}")
    return _figure(title, svg, lines)


def strips(
    rows: Sequence[Strip], *, title: str, x_title: str, range_: tuple[float, float] | None = None
) -> Element:
    """Rows of dots over a common axis, each with median and quartiles as a box.

    Args:
        rows: from top to bottom.
        title: what they show.
        x_title: of the axis below.
        range_: lowest and highest value of the axis; that of the values by default.
    """
    values = [value for row in rows for value in row.values]
    low, high = range_ or (min(values), max(values))
    left = _room_for([row.name for row in rows])
    along = _Axis(low, high, left, WIDTH - _RIGHT).widened(fixed=range_ is not None)
    bottom = _TOP + _ROW * len(rows)
    most = min(MOST_DOTS, MOST_DOTS_OF_ALL // len(rows))
    named = len(values) <= MOST_NAMED_DOTS
    parts = [*_grid_down(along, bottom)]
    for number, row in enumerate(rows):
        parts += _strip(row, along, _TOP + _ROW * (number + 0.5), most, named=named)
    parts.append(_text(x_title, (left + WIDTH - _RIGHT) / 2, bottom + _BOTTOM - 4, "middle"))
    words = "; ".join(f"{r.name}: median {plain(float(np.median(r.values)))}" for r in rows[:12])
    return _figure(title, _svg(parts, WIDTH, bottom + _BOTTOM, f"{title}. {words}"), ())


def means(rows: Sequence[Mean], *, title: str, x_title: str) -> Element:
    """Means with their intervals over a common axis.

    Args:
        rows: from top to bottom.
        title: what they show.
        x_title: of the axis below.
    """
    ends = [end for row in rows for end in (row.value, *(row.interval or ()))]
    left = _room_for([row.name for row in rows])
    along = _Axis(min(ends), max(ends), left, WIDTH - _RIGHT - 8).widened()
    bottom = _TOP + _ROW * len(rows)
    parts = [*_grid_down(along, bottom)]
    for number, row in enumerate(rows):
        parts += _mean(row, along, _TOP + _ROW * (number + 0.5))
    parts.append(_text(x_title, (left + WIDTH - _RIGHT) / 2, bottom + _BOTTOM - 4, "middle"))
    words = "; ".join(f"{row.name} {row.text}" for row in rows[:12])
    return _figure(title, _svg(parts, WIDTH, bottom + _BOTTOM, f"{title}. {words}"), ())


def thinned(count: int, most: int) -> list[int]:
    """Positions of so many of some things, evenly spaced, first and last among them."""
    if count <= most:
        return list(range(count))
    return [round(position) for position in np.linspace(0, count - 1, most)]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to places on the page."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, *, whole: bool = False) -> list[float]:
        step = _step((self.high - self.low) or 1.0)
        step = max(1.0, round(step)) if whole else step
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [round(number * step, 10) for number in range(first, last + 1)]

    def widened(self, *, fixed: bool = False) -> _Axis:
        if fixed:
            return self
        room = 0.04 * (self.high - self.low) or 0.05 * abs(self.high) or 0.5
        return _Axis(self.low - room, self.high + room, self.start, self.end)


def _step(length: float) -> float:
    """A round number that is four to eight times in a length."""
    size = 10 ** floor(log10(length))
    return next(size * part for part in (0.2, 0.25, 0.5, 1.0, 2.0) if length / (size * part) <= 7)


def _grid_across(up: _Axis) -> list[Element]:
    parts: list[Element] = []
    for tick in up.ticks():
        y = up.at(tick)
        parts.append(element("path", d=f"M{_LEFT} {y}H{WIDTH - _RIGHT}", class_="grid"))
        parts.append(_text(plain(tick), _LEFT - 6, y + 4, "end"))
    return parts


def _grid_down(along: _Axis, bottom: float) -> list[Element]:
    parts = [
        element("path", d=f"M{along.at(tick)} {_TOP}V{bottom}", class_="grid")
        for tick in along.ticks()
    ]
    return parts + _marks_below(along, bottom)


def _marks_below(along: _Axis, bottom: float, *, whole: bool = False) -> list[Element]:
    ticks = along.ticks(whole=whole)
    return [_text(plain(tick), along.at(tick), bottom + 15, "middle") for tick in ticks]


def _curve(line: Curve, right: _Axis, up: _Axis) -> Element:
    points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None and isfinite(y)]
    points = [points[index] for index in thinned(len(points), MOST_POINTS)]
    places = " ".join(f"{right.at(x):g} {up.at(y):g}" for x, y in points)
    kind = f"line c{line.colour % 8}{' dashed' if line.dashed else ''}"
    if len(points) == 1:
        return element(
            "circle", cx=right.at(points[0][0]), cy=up.at(points[0][1]), r=3, class_=kind
        )
    return element("path", d=f"M{places}" if places else None, class_=kind)


def _strip(row: Strip, along: _Axis, y: float, most: int, *, named: bool) -> list[Element]:
    parts = [_row_name(row.name, along, y)]
    order = np.argsort(row.values, kind="stable")
    for index in (int(order[i]) for i in thinned(len(order), most)):
        # Dots of equal values stand apart; where is no matter of chance.
        away = ((index * 0.618) % 1 - 0.5) * 0.56 * _ROW
        value = row.values[index]
        what = element("title", f"{row.names[index]}: {plain(value)}") if named else None
        place = {"cx": along.at(value), "cy": round(y + away, 1)}
        parts.append(element("circle", what, r=2.6, class_=f"dot c{row.colour % 8}", **place))
    lower, middle, upper = (along.at(float(q)) for q in np.quantile(row.values, (0.25, 0.5, 0.75)))
    top, bottom = round(y - 0.34 * _ROW, 1), round(y + 0.34 * _ROW, 1)
    parts.append(element("path", d=f"M{lower} {top}H{upper}V{bottom}H{lower}z", class_="box"))
    parts.append(element("path", d=f"M{middle} {top}V{bottom}", class_="median"))
    return parts


def _mean(row: Mean, along: _Axis, y: float) -> list[Element]:
    parts = [_row_name(row.name, along, y)]
    if row.interval is not None:
        low, high = map(along.at, row.interval)
        parts.append(element("path", d=f"M{low} {y}H{high}", class_=f"interval c{row.colour % 8}"))
    what = element("title", f"{row.name}: {row.text}")
    kind = f"mean c{row.colour % 8}"
    parts.append(element("circle", what, cx=along.at(row.value), cy=y, r=5, class_=kind))
    return parts


def _row_name(name: str, along: _Axis, y: float) -> Element:
    short = (
        name
        if len(name) <= _LONGEST_NAME
        else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    )
    return _text(short, along.start - 8, y + 4, "end", "name")


def _room_for(names: Sequence[str]) -> float:
    return 18 + _LETTER * min(_LONGEST_NAME, max(map(len, names)))


def _text(text: str, x: float, y: float, anchor: str, kind: str | None = None) -> Element:
    return element("text", text, x=round(x, 1), y=round(y, 1), text_anchor=anchor, class_=kind)


def _svg(parts: Sequence[Element], width: float, height: float, label: str) -> Element:
    return element(
        "svg",
        parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        class_="chart",
    )


def _figure(title: str, svg: Element, lines: Sequence[Curve]) -> Element:
    keys = dict.fromkeys((line.name, line.colour % 8, line.dashed) for line in lines)
    legend = [element("li", _key(colour, dashed=dashed), name) for name, colour, dashed in keys]
    return element(
        "figure",
        element("figcaption", title),
        svg,
        element("ul", legend, class_="legend") if legend else None,
    )


def _key(colour: int, *, dashed: bool) -> Element:
    line = element("path", d="M0 6H22", class_=f"line c{colour}{' dashed' if dashed else ''}")
    return element("svg", line, viewBox="0 0 22 12", class_="key", aria_hidden="true")
