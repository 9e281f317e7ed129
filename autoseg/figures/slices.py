"""Which slices of a segmented case to look at, and which way round: pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.figures.overlay import best_slice

Labels = npt.NDArray[np.integer]

MISSED, INVENTED, SWAPPED = 1, 2, 3
"""Kinds of errors: a structure not found, one where there is none, one taken for another."""

MOST_SLICES = 3

_PICTURE_SPACING_MM = 999.0
_NEARLY_EQUAL = 0.9
_MARGIN = 0.4
_SMALLEST_MARGIN_VOX = 8

_PLANES = {
    "S": "axial",
    "I": "axial",
    "P": "coronal",
    "A": "coronal",
    "L": "sagittal",
    "R": "sagittal",
}
_OPPOSITE = {"S": "I", "I": "S", "P": "A", "A": "P", "L": "R", "R": "L"}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How slices are cut out of a volume and turned for the reader.

    Heads are up, else faces; the patient's right is on the reader's left.

    Attributes:
        axis: that counts the slices.
        swap: whether the rows of a slice become columns.
        flip_rows: whether the last row becomes the first, after swapping.
        flip_columns: whether the last column becomes the first, after swapping.
        spacing: mm of rows and columns, after swapping.
        plane: ``"axial"`` or the like; None for a picture.
        sides: where top, right, bottom and left of a slice point in the patient; empty for a
            picture.
    """

    axis: int
    swap: bool
    flip_rows: bool
    flip_columns: bool
    spacing: tuple[float, float]
    plane: str | None
    sides: tuple[str, ...]

    def cut(self, volume: npt.NDArray, index: int) -> npt.NDArray:
        """A slice as it is shown.

        Args:
            volume: ``(z, y, x)`` or ``(z, y, x, colours)``.
            index: of the slice.

        Returns:
            ``(rows, columns)`` or ``(rows, columns, colours)``.
        """
        shown = np.take(volume, index, axis=self.axis)
        shown = shown.swapaxes(0, 1) if self.swap else shown
        shown = shown[::-1] if self.flip_rows else shown
        return shown[:, ::-1] if self.flip_columns else shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenSlice:
    """A slice worth looking at.

    Attributes:
        index: along the view's axis.
        reasons: why, such as ``"most errors"``.
    """

    index: int
    reasons: tuple[str, ...]


def best_view(geometry: Geometry) -> View:
    """The plane of highest resolution, turned the way readers know it.

    Args:
        geometry: of the image.
    """
    spacing, letters = geometry.spacing, geometry.orientation
    if is_picture(geometry):
        rows_mm, columns_mm = spacing[1:]
        return View(
            axis=0, swap=False, flip_rows=False, flip_columns=False,
            spacing=(rows_mm, columns_mm), plane=None, sides=(),
        )  # fmt: skip
    coarse = [axis for axis in range(3) if spacing[axis] >= _NEARLY_EQUAL * max(spacing)]
    axis = next((a for a in coarse if letters[a] in "SI"), coarse[0])
    rows, columns = (other for other in range(3) if other != axis)
    swap = _rank(letters[columns]) < _rank(letters[rows])
    rows, columns = (columns, rows) if swap else (rows, columns)
    flip_rows, flip_columns = letters[rows] in "SA", letters[columns] in "RA"
    down = _OPPOSITE[letters[rows]] if flip_rows else letters[rows]
    right = _OPPOSITE[letters[columns]] if flip_columns else letters[columns]
    return View(
        axis=axis,
        swap=swap,
        flip_rows=flip_rows,
        flip_columns=flip_columns,
        spacing=(spacing[rows], spacing[columns]),
        plane=_PLANES[letters[axis]],
        sides=(_OPPOSITE[down], right, down, _OPPOSITE[right]),
    )


def is_picture(geometry: Geometry) -> bool:
    """Whether an image is a picture, which lies nowhere in a patient."""
    return geometry.shape[0] == 1 and geometry.spacing[0] == _PICTURE_SPACING_MM


def errors_of(
    reference: Labels,
    prediction: Labels,
    ignore: int | None = None,
    unknown: Collection[int] = (),
) -> npt.NDArray[np.uint8]:
    """Where a prediction is wrong, and how.

    Args:
        reference: indices, ``(z, y, x)``.
        prediction: likewise.
        ignore: index of what nobody annotated.
        unknown: indices that the reference is not annotated for: nobody knows whether they are
            where it has nothing.

    Returns:
        0 where it is right, else ``MISSED``, ``INVENTED`` or ``SWAPPED``; ``(z, y, x)``.
    """
    errors = np.zeros(reference.shape, dtype=np.uint8)
    wrong = reference != prediction
    if ignore is not None:
        wrong &= reference != ignore
    errors[wrong & (prediction <= 0)] = MISSED
    errors[wrong & (reference <= 0)] = INVENTED
    errors[wrong & (reference > 0) & (prediction > 0)] = SWAPPED
    if unknown:
        errors[(reference <= 0) & np.isin(prediction, list(unknown))] = 0
    return errors


def slices_that_matter(
    view: View, reference: Labels, prediction: Labels, errors: npt.NDArray[np.uint8]
) -> list[ChosenSlice]:
    """Where most is wrong, and where the rarest structure is largest.

    Args:
        view: how slices are cut.
        reference: indices, ``(z, y, x)``.
        prediction: likewise.
        errors: as ``errors_of`` gives them.

    Returns:
        One to three slices, from one end to the other.
    """
    others = tuple(axis for axis in range(3) if axis != view.axis)
    wrong = np.count_nonzero(errors, axis=others)
    found: dict[int, list[str]] = {}
    if wrong.any():
        found.setdefault(int(wrong.argmax()), []).append("most errors")
    filled = reference if (reference > 0).any() else prediction
    largest = best_slice(np.moveaxis(filled, view.axis, 0))
    found.setdefault(largest, []).append("largest cross-section")
    apart = max(2, len(wrong) // 10)
    for index in np.argsort(-wrong, kind="stable"):
        if len(found) >= MOST_SLICES or not wrong[index]:
            break
        if all(abs(int(index) - known) >= apart for known in found):
            found[int(index)] = ["many errors"]
    return [ChosenSlice(index=index, reasons=tuple(found[index])) for index in sorted(found)]


def window_around(shown: Sequence[Labels]) -> tuple[slice, slice]:
    """Rows and columns around what is segmented in some slices of one view.

    Args:
        shown: indices, ``(rows, columns)``, of one shape.

    Returns:
        The box of all structures with something around it; everything if there are none.
    """
    inside = np.any([labels > 0 for labels in shown], axis=0)
    rows, columns = (np.flatnonzero(inside.any(axis=1 - axis)) for axis in range(2))
    if not len(rows):
        return slice(0, inside.shape[0]), slice(0, inside.shape[1])
    sides = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    margin = max(_SMALLEST_MARGIN_VOX, round(_MARGIN * float(sides)))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


def _rank(letter: str) -> int:
    """Which axis is upright: that of head and feet, else that of face and back."""
    return ("SI", "PA", "LR").index(next(pair for pair in ("SI", "PA", "LR") if letter in pair))
