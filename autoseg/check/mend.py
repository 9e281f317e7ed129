"""What ``--mend`` asks for, and how it changes the arrays of a case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.alignment import find_misfit
from autoseg.core.geometry import Geometry, Triple
from autoseg.core.labels import LabelSpace
from autoseg.core.problem import KINDS
from autoseg.errors import AutosegError, unknown_name
from autoseg.io.case_files import lowest_for_not_finite
from autoseg.io.regrid import resample_onto

LEAVE_OUT = "leave-out"

_WAYS = {
    "geometry": ("copy", "resample"),
    "labels": ("FROM:TO,...", "round"),
    "voxels": ("lowest",),
    "spacing": ("Z,Y,X",),
}
_MENDS = {
    ("geometry", "copy"): ("geometry", "geometry-slight"),
    ("geometry", "resample"): ("shape", "geometry", "geometry-slight"),
    ("labels", "round"): ("fractional-labels",),
    ("voxels", "lowest"): ("not-finite",),
}
_PAIRS = re.compile(r"-?\d+:-?\d+(,-?\d+:-?\d+)*")
_ORDER = ("spacing", "voxels", "geometry", "labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """One wish of a user.

    Attributes:
        what: ``geometry``, ``labels``, ``voxels``, ``spacing``, or a kind of problem.
        how: the word behind the ``=``, as the user wrote it.
        kinds: the kinds of problems it mends.
        spacing: of ``spacing=Z,Y,X``, mm.
        values: of ``labels=FROM:TO``: file values and what they become.
    """

    what: str
    how: str
    kinds: tuple[str, ...]
    spacing: Triple | None = None
    values: tuple[tuple[int, int], ...] = ()

    @property
    def text(self) -> str:
        """As the user wrote it."""
        return f"{self.what}={self.how}"

    @property
    def leaves_out(self) -> bool:
        """Whether it leaves cases out instead of mending files."""
        return self.how == LEAVE_OUT


@dataclass(slots=True, kw_only=True)
class Part:
    """A raw file of a case while it is mended.

    Attributes:
        raw: the raw file.
        array: ``(channels, z, y, x)``; a label map has one channel.
        geometry: where it lies.
        done: what was done to it.
    """

    raw: Path
    array: npt.NDArray[Any]
    geometry: Geometry
    done: list[str] = field(default_factory=list)


def parse_mends(texts: Sequence[str]) -> tuple[Mend, ...]:
    """Read what ``--mend`` said.

    Args:
        texts: such as ``"geometry=copy"`` or ``"unreadable=leave-out"``.

    Returns:
        The wishes, in the order in which they are applied to a case.

    Raises:
        AutosegError: if one is not understood, with those that are; or two contradict.
    """
    mends = [_parse(text) for text in texts]
    for what in ("geometry", "spacing"):
        hows = {mend.how for mend in mends if mend.what == what}
        if len(hows) > 1:
            raise AutosegError(
                f"--mend {what} is given with {' and '.join(sorted(hows))}", remedy="choose one"
            )
    # Rounding comes before translating: values must be whole to be named.
    return tuple(sorted(mends, key=lambda mend: (_rank(mend.what), mend.how != "round")))


def check_targets(mends: Sequence[Mend], labels: LabelSpace) -> None:
    """Refuse to translate label values into ones that are not declared.

    Raises:
        AutosegError: if a wish does.
    """
    for mend in mends:
        unknown = labels.undeclared([new for _, new in mend.values]) if mend.values else ()
        if unknown:
            raise AutosegError(
                f"--mend {mend.text}: label {unknown[0]} is not declared",
                remedy=f"use one of {', '.join(map(str, labels.values))}",
            )


def mend_parts(images: Sequence[Part], label: Part, mends: Sequence[Mend], background: int) -> None:
    """Mend the files of a case, in place.

    Args:
        images: the image files; the first one's grid is that of the case.
        label: the label map.
        mends: as ``parse_mends`` orders them.
        background: label value of what the label map does not cover.
    """
    for mend in mends:
        if mend.spacing is not None:
            for part in (*images, label):
                _set_spacing(part, mend.spacing, mend.text)
        elif mend.what == "voxels":
            for part in images:
                _fill(part, mend.text)
        elif mend.what == "geometry":
            for part in (*images[1:], label):
                outside = background if part is label else None
                _put_on_grid(part, images[0].geometry, mend, outside)
        elif mend.values:
            _translate(label, mend)
        else:
            _round(label, background, mend.text)


def _parse(text: str) -> Mend:
    what, _, how = (part.strip() for part in text.partition("="))
    leavable = [kind for kind, about in KINDS.items() if about.can_leave_out]
    if what not in _WAYS and what not in leavable:
        raise unknown_name("mend", what, {*_WAYS, *leavable}, place="--mend")
    if how == LEAVE_OUT and what in leavable:
        return Mend(what=what, how=how, kinds=(what,))
    if (what, how) in _MENDS:
        return Mend(what=what, how=how, kinds=_MENDS[what, how])
    if what == "labels" and _PAIRS.fullmatch(how):
        pairs = [tuple(map(int, pair.split(":"))) for pair in how.split(",")]
        values = tuple((old, new) for old, new in pairs)
        kinds = ("undeclared-labels", "fractional-labels", "unannotated-structure")
        return Mend(what=what, how=how, kinds=kinds, values=values)
    if what == "spacing" and (spacing := _spacing_of(how)) is not None:
        kinds = ("spacing", "spacing-outlier")
        return Mend(what=what, how=how, kinds=kinds, spacing=spacing)
    ways = [*_WAYS.get(what, ()), *([LEAVE_OUT] if what in leavable else [])]
    raise AutosegError(
        f"--mend {what}={how}: there is no such way",
        remedy=f"write {' or '.join(f'{what}={way}' for way in ways)}",
    )


def _spacing_of(text: str) -> Triple | None:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    if len(numbers) != 3 or not all(0 < number < np.inf for number in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]


def _rank(what: str) -> int:
    return _ORDER.index(what) if what in _ORDER else len(_ORDER)


def _set_spacing(part: Part, spacing: Triple, text: str) -> None:
    if part.geometry.spacing != spacing:
        part.geometry = replace(part.geometry, spacing=spacing)
        part.done.append(text)


def _fill(part: Part, text: str) -> None:
    channels = [lowest_for_not_finite(channel) for channel in part.array]
    if any(count for _, count in channels):
        part.array = np.stack([channel for channel, _ in channels])
        part.done.append(text)


def _put_on_grid(part: Part, grid: Geometry, mend: Mend, background: int | None) -> None:
    misfit = find_misfit(grid, part.geometry)
    if misfit is None or (mend.how == "copy" and misfit.kind == "shape"):
        return
    if mend.how == "resample":
        is_label = background is not None
        part.array = np.stack(
            [
                resample_onto(
                    channel,
                    part.geometry,
                    grid,
                    is_label=is_label,
                    outside=background if background is not None else float(channel.min()),
                )
                for channel in part.array
            ]
        )
    part.geometry = grid
    part.done.append(mend.text)


def _round(label: Part, background: int, text: str) -> None:
    if np.issubdtype(label.array.dtype, np.integer):
        return
    finite = np.where(np.isfinite(label.array), label.array, background)
    rounded = np.rint(finite)
    if not np.array_equal(rounded, label.array):
        label.array = rounded
        label.done.append(text)


def _translate(label: Part, mend: Mend) -> None:
    """All pairs at once: what one pair makes is not translated by another."""
    before = label.array
    wide = np.result_type(before.dtype, *(np.min_scalar_type(new) for _, new in mend.values))
    after = before.astype(wide)
    for old, new in mend.values:
        after[before == old] = new
    if not np.array_equal(before, after, equal_nan=np.issubdtype(wide, np.floating)):
        label.array = after
        label.done.append(mend.text)
