"""Slices of a case as layers that a page lays one over the other: image, outlines, errors."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator
from PIL import Image as PillowImage

from autoseg.core.image import Image
from autoseg.core.labels import LabelSpace
from autoseg.errors import DataError
from autoseg.figures.cases import CasePicture, shown_channels
from autoseg.figures.colours import Colour
from autoseg.figures.overlay import OverlayRow, grey_window
from autoseg.figures.slices import (
    INVENTED,
    MISSED,
    SWAPPED,
    ChosenSlice,
    View,
    best_view,
    errors_of,
    slices_that_matter,
    window_around,
)
from autoseg.io.images import read_image, read_labels

Labels = npt.NDArray[np.integer]

ERROR_COLOURS: dict[int, str] = {MISSED: "#ffd60a", INVENTED: "#d6249f", SWAPPED: "#5ff5e0"}
"""Told apart with any kind of colour blindness, and unlike the first structures' colours."""

MOST_PIXELS = 320
"""Of the longer side of a slice; of a colour picture two thirds, which takes as much again."""

MOST_OUTLINE = 30_000
"""Letters of the outlines of a slice; ragged ones are drawn coarser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Where a structure ends, as SVG path data in half voxels; empty where it is not.

    Attributes:
        index: of the structure.
        reference: its outline in the reference.
        prediction: its outline in the prediction.
    """

    index: int
    reference: str
    prediction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceLayers:
    """One slice.

    Attributes:
        caption: which slice it is.
        reasons: why it is shown.
        shape: rows and columns.
        spacing: mm of rows and columns.
        image: PNG.
        errors: PNG, transparent where all is right; None if it is so everywhere.
        outlines: of the structures that are in it.
        sides: where top, right, bottom and left point in the patient; empty if unknown.
        num_errors: missed, invented and swapped voxels.
    """

    caption: str
    reasons: tuple[str, ...]
    shape: tuple[int, int]
    spacing: tuple[float, float]
    image: bytes
    errors: bytes | None
    outlines: tuple[Outline, ...]
    sides: tuple[str, ...]
    num_errors: tuple[int, int, int]


def draw_layers(
    picture: CasePicture, labels: LabelSpace, unknown: Collection[int] = ()
) -> tuple[SliceLayers, ...]:
    """Draw the slices of a case that matter.

    Args:
        picture: its image, reference and prediction.
        labels: what the file values mean.
        unknown: indices the reference is not annotated for.

    Returns:
        One to three slices.

    Raises:
        AutosegError: if a file cannot be read, or they do not fit.
    """
    image = read_image(picture.images)
    reference, prediction = (_indices(picture, number, image, labels) for number in range(2))
    errors = errors_of(reference, prediction, labels.ignore_index, unknown)
    reference = np.where(reference == labels.ignore_index, 0, reference)
    view = best_view(image.geometry)
    chosen = slices_that_matter(view, reference, prediction, errors)
    stack = _Stack(
        view=view,
        image=shown_channels(image),
        reference=reference,
        prediction=prediction,
        errors=errors,
        num_classes=labels.num_classes,
    )
    cuts = [view.cut(volume, s.index) for s in chosen for volume in (reference, prediction)]
    return stack.draw(chosen, window_around(cuts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """The volumes of a case, to be cut into slices."""

    view: View
    image: npt.NDArray[np.floating]
    reference: Labels
    prediction: Labels
    errors: npt.NDArray[np.uint8]
    num_classes: int

    def draw(
        self, chosen: Sequence[ChosenSlice], window: tuple[slice, slice]
    ) -> tuple[SliceLayers, ...]:
        """All slices in one range of grey."""
        best = next((s for s in chosen if "largest cross-section" in s.reasons), chosen[0])
        grey = self._grey(best.index)
        return tuple(self._layers(s, window, grey) for s in chosen)

    def _grey(self, index: int) -> tuple[float, float]:
        parts = (self.image, self.reference, self.prediction)
        image, reference, prediction = (self.view.cut(part, index)[np.newaxis] for part in parts)
        panels = [("reference", reference), ("prediction", prediction)]
        return grey_window(
            OverlayRow(title="", image=image, panels=panels, spacing=(1.0, *self.view.spacing))
        )

    def _layers(
        self, chosen: ChosenSlice, window: tuple[slice, slice], grey: tuple[float, float]
    ) -> SliceLayers:
        parts = (self.image, self.reference, self.prediction, self.errors)
        image, reference, prediction, errors = (
            self.view.cut(part, chosen.index)[window] for part in parts
        )
        count = self.image.shape[self.view.axis]
        where = f"{self.view.plane or 'plain'} slice {chosen.index + 1} of {count}"
        missed, invented, swapped = (
            int(np.count_nonzero(errors == kind)) for kind in (MISSED, INVENTED, SWAPPED)
        )
        return SliceLayers(
            caption="the picture" if self.view.plane is None else where,
            reasons=chosen.reasons,
            shape=(errors.shape[0], errors.shape[1]),
            spacing=self.view.spacing,
            image=_grey_png(image, grey),
            errors=_error_png(errors) if errors.any() else None,
            outlines=_outlines(reference, prediction, self.num_classes),
            sides=self.view.sides,
            num_errors=(missed, invented, swapped),
        )


def _indices(picture: CasePicture, number: int, image: Image, labels: LabelSpace) -> Labels:
    file = picture.maps[number][1]
    array = read_labels(file, labels).array
    if array.shape != image.geometry.shape:
        raise DataError(
            f"{array.shape} voxels (z, y, x), the image has {image.geometry.shape}", place=file
        )
    return labels.to_indices(array)


def _grey_png(image: npt.NDArray[np.floating], grey: tuple[float, float]) -> bytes:
    low, high = grey
    shares = ((image - low) / (high - low)).clip(0, 1)
    picture = PillowImage.fromarray((255 * shares).round().astype(np.uint8))
    most = MOST_PIXELS if image.ndim == 2 else 2 * MOST_PIXELS // 3
    return _png(_reduced(picture, most, PillowImage.Resampling.BOX))


def _error_png(errors: npt.NDArray[np.uint8]) -> bytes:
    picture = PillowImage.fromarray(errors)
    colours = [0, 0, 0]
    for kind in (MISSED, INVENTED, SWAPPED):
        colours += [round(255 * part) for part in _rgb(ERROR_COLOURS[kind])]
    picture.putpalette(colours)
    reduced = _reduced(picture, MOST_PIXELS, PillowImage.Resampling.NEAREST)
    return _png(reduced, transparency=0)


def _reduced(
    picture: PillowImage.Image, most: int, method: PillowImage.Resampling
) -> PillowImage.Image:
    """The picture, smaller if a side is too long."""
    longest = max(picture.size)
    if longest <= most:
        return picture
    width, height = (max(1, round(side * most / longest)) for side in picture.size)
    return picture.resize((width, height), method)


def _png(picture: PillowImage.Image, **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True, **options)
    return file.getvalue()


def _rgb(colour: str) -> Colour:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _outlines(reference: Labels, prediction: Labels, num_classes: int) -> tuple[Outline, ...]:
    present = set(np.unique(reference)) | set(np.unique(prediction))
    indices = [int(index) for index in sorted(present) if 0 < index < num_classes]
    step = 1
    # What is far too ragged need not be traced to find that out.
    while _num_edges(reference, prediction, step) > 2 * MOST_OUTLINE:
        step *= 2
    while True:
        outlines = tuple(
            Outline(
                index=index,
                reference=_outline(reference == index, step),
                prediction=_outline(prediction == index, step),
            )
            for index in indices
        )
        letters = sum(len(o.reference) + len(o.prediction) for o in outlines)
        if letters <= MOST_OUTLINE or step > max(reference.shape):
            return outlines
        step *= 2


def _num_edges(reference: Labels, prediction: Labels, step: int) -> int:
    """Sides that voxels of different labels share."""
    coarse = (labels[::step, ::step] for labels in (reference, prediction))
    return sum(int(np.count_nonzero(np.diff(c, axis=a))) for c in coarse for a in range(2))


def _outline(inside: npt.NDArray[np.bool_], step: int = 1) -> str:
    """Closed lines around the voxels inside, half way to those outside.

    Args:
        inside: ``(rows, columns)``.
        step: side of the squares of voxels that are drawn as one.

    Returns:
        SVG path data in half voxels, the corner of the first voxel at 0.
    """
    if not inside.any():
        return ""
    inside = inside[::step, ::step]
    # A frame of background closes the line around what touches the border.
    framed = np.pad(inside, 1).astype(np.float64)
    parts: list[str] = []
    for line in contour_generator(z=framed).lines(0.5):
        # Voxel centres of the frame lie at whole numbers, corners half a voxel off.
        points = np.round(2 * (np.asarray(line) - 0.5) * step).astype(int)[:-1]
        moves = np.diff(points, axis=0)
        turns = np.flatnonzero((moves[1:] != moves[:-1]).any(axis=1)) + 1
        corners = points[np.r_[0, turns, len(points) - 1]]
        steps = " ".join(f"{x} {y}" for x, y in np.diff(corners, axis=0))
        parts.append(f"M{corners[0][0]} {corners[0][1]}l{steps}z")
    return "".join(parts)
