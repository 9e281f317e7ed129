"""Segmentations drawn over the images they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import ndimage

from autoseg.core.geometry import Triple
from autoseg.figures.colours import INK, Colour, structure_colours
from autoseg.io.atomic import atomic_path

Labels = npt.NDArray[np.integer]
Slice = npt.NDArray[np.floating]

DOTS_PER_INCH = 100

# Inches.
_WIDTH_RANGE = (9.0, 14.0)
_PANEL_WIDTH = 3.8
_WIDEST_PANEL = 5.5
_MARGIN = 0.15
_CAPTION_HEIGHT = 0.36
_HEADER_HEIGHT = 0.26
_LEGEND_ROW_HEIGHT = 0.3
_SURROUNDINGS_VOX = 3

_LEGEND_PATCH_WIDTH = 0.65
_LETTER_WIDTH = 0.095


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayRow:
    """One case.

    Attributes:
        title: caption of the row, such as the case's name and its Dice.
        image: intensities of one channel, ``(z, y, x)``, or red, green and blue in 0..1,
            ``(z, y, x, 3)``.
        panels: title and labels of each panel from left to right; labels are indices
            ``(z, y, x)``, or None to show the image alone. The first labels are the reference.
        spacing: mm, ``(z, y, x)``.

    Raises:
        ValueError: if there is no panel or the labels' shape is not the image's.
    """

    title: str
    image: npt.NDArray[np.floating]
    panels: Sequence[tuple[str, Labels | None]]
    spacing: Triple

    def __post_init__(self) -> None:
        if not self.panels:
            raise ValueError("a row needs a panel")
        for title, labels in self.panels:
            if labels is not None and labels.shape != self.image.shape[:3]:
                raise ValueError(
                    f"'{title}' has shape {labels.shape}, the image {self.image.shape}"
                )

    @property
    def is_colour(self) -> bool:
        """Whether the image has red, green and blue."""
        return self.image.ndim == 4

    @property
    def maps(self) -> list[Labels]:
        """Labels of the panels that have any, the reference first."""
        return [labels for _, labels in self.panels if labels is not None]


def save_overlay(path: Path, rows: Sequence[OverlayRow], names: Sequence[str]) -> Path:
    """Write a picture of segmentations as PNG.

    Args:
        path: where to.
        rows: the cases, from top to bottom.
        names: names of the indices 1..n.

    Returns:
        ``path``.

    Raises:
        AutosegError: if the file cannot be written.
        ValueError: if there are no rows.
    """
    figure = overlay_figure(rows, names)
    with atomic_path(path) as place:
        figure.savefig(place, format="png")
    return path


def overlay_figure(rows: Sequence[OverlayRow], names: Sequence[str]) -> Figure:
    """Draw every case on the slice that shows its rarest structure best.

    Args:
        rows: the cases, from top to bottom.
        names: names of the indices 1..n.

    Returns:
        A figure of 900 to 1400 pixels width, on an Agg canvas.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("an overlay needs at least one row")
    rows = [_only_shown(row) for row in rows]
    colours = structure_colours(len(names))
    columns = max(len(row.panels) for row in rows)
    width = float(np.clip(columns * _PANEL_WIDTH, *_WIDTH_RANGE))
    panel_width = min((width - _MARGIN) / columns - _MARGIN, _WIDEST_PANEL)
    shown = _structures_shown(rows, len(names))
    legend = [(names[index], colours[index]) for index in shown]
    legend_columns = _legend_columns(legend, width)
    legend_height = -(-len(legend) // legend_columns) * _LEGEND_ROW_HEIGHT + _MARGIN
    heights = [_panel_height(row, panel_width) for row in rows]
    row_gap = _CAPTION_HEIGHT + _HEADER_HEIGHT + _MARGIN
    height = sum(heights) + row_gap * len(rows) + legend_height

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    top = height
    for row, panel_height in zip(rows, heights, strict=True):
        top -= row_gap + panel_height
        _caption(figure, row.title, _MARGIN, top + panel_height + _HEADER_HEIGHT)
        window = grey_window(row)
        for column, (title, labels) in enumerate(row.panels):
            left = _MARGIN + column * (panel_width + _MARGIN)
            place = np.array([left, top, panel_width, panel_height])
            axes = figure.add_axes(tuple(place / (width, height, width, height)))
            _draw_panel(axes, row, title, labels, window, colours)
    _draw_legend(figure, legend, legend_columns)
    return figure


def best_slice(reference: Labels) -> int:
    """The slice with the most voxels of the rarest structure.

    Args:
        reference: indices, ``(z, y, x)``; negative ones count as background.

    Returns:
        Index along z; the middle if there is no structure.
    """
    size = max(int(reference.max()), 0) + 1
    clipped = (np.maximum(plane, 0).ravel() for plane in reference)
    counts = np.array([np.bincount(plane, minlength=size) for plane in clipped])[:, 1:]
    totals = counts.sum(axis=0)
    present = np.flatnonzero(totals)
    if present.size == 0:
        return reference.shape[0] // 2
    rarest = present[totals[present].argmin()]
    return int(counts[:, rarest].argmax())


def _only_shown(row: OverlayRow) -> OverlayRow:
    """The row cut down to one slice: where the reference, else another panel, has something."""
    filled = next((labels for labels in row.maps if (labels > 0).any()), None)
    index = row.image.shape[0] // 2 if filled is None else best_slice(filled)
    panels = [
        (title, None if labels is None else labels[index : index + 1])
        for title, labels in row.panels
    ]
    return replace(row, image=row.image[index : index + 1], panels=panels)


def _structures_shown(rows: Sequence[OverlayRow], count: int) -> list[int]:
    """Zero-based structures that are seen in some panel."""
    seen = {int(index) for row in rows for labels in row.maps for index in np.unique(labels)}
    return [index - 1 for index in sorted(seen) if 0 < index <= count]


def _panel_height(row: OverlayRow, panel_width: float) -> float:
    """Height in inches at which a millimetre is as high as it is wide, within reason."""
    _, rows, columns = row.image.shape[:3]
    _, row_mm, column_mm = row.spacing
    ratio = rows * row_mm / (columns * column_mm)
    return panel_width * float(np.clip(ratio, 0.3, 2.0))


def grey_window(row: OverlayRow) -> tuple[float, float]:
    """Darkest and brightest intensity shown, from what is segmented and lies around it.

    Of the first slice of the row. Air and table would take most of the grey levels of a CT, so
    the slice's own range is the limit only; the median does not mind some air beside an organ.
    """
    if row.is_colour:
        return 0.0, 1.0
    image = row.image[0]
    low, high = (float(value) for value in np.percentile(image, (0.5, 99.5)))
    inside = next((seen for labels in row.maps if (seen := labels[0] > 0).any()), None)
    if inside is not None:
        around = ndimage.binary_dilation(inside, iterations=_SURROUNDINGS_VOX)
        middle, bright = (float(value) for value in np.percentile(image[around], (50, 98)))
        low = max(low, middle - 2 * (bright - middle))
        high = min(high, bright + 0.5 * (bright - middle))
    return low, max(high, low + 1e-6)


def _caption(figure: Figure, text: str, left: float, bottom: float) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, (bottom + 0.08) / height, text, size=12, weight="bold", color=INK)


def _draw_panel(
    axes: Axes,
    row: OverlayRow,
    title: str,
    labels: Labels | None,
    window: tuple[float, float],
    colours: Sequence[Colour],
) -> None:
    _, row_mm, column_mm = row.spacing
    axes.imshow(
        row.image[0].clip(0, 1) if row.is_colour else row.image[0],
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        aspect=row_mm / column_mm,
        interpolation="bilinear",
    )
    if labels is not None:
        _draw_labels(axes, labels[0], colours)
    axes.set_facecolor("black")
    axes.set_axis_off()
    axes.set_title(title, size=10, color=INK, pad=5)


def _draw_labels(axes: Axes, labels: Labels, colours: Sequence[Colour]) -> None:
    """A translucent fill and a contour per structure."""
    fill = np.zeros((*labels.shape, 4))
    for index, colour in enumerate(colours, start=1):
        inside = labels == index
        if not inside.any():
            continue
        fill[inside] = to_rgba(colour, 0.25)
        # A frame of background closes the contour of what touches the border.
        framed = np.pad(inside, 1).astype(float)
        rows, columns = (np.arange(size) - 1.0 for size in framed.shape)
        axes.contour(columns, rows, framed, levels=[0.5], colors=[colour], linewidths=1.6)
    axes.imshow(fill, interpolation="nearest", aspect=axes.get_aspect())
    axes.set(xlim=(-0.5, labels.shape[1] - 0.5), ylim=(labels.shape[0] - 0.5, -0.5))


def _legend_columns(entries: Sequence[tuple[str, Colour]], width: float) -> int:
    """How many entries stand side by side."""
    longest = max((len(name) for name, _ in entries), default=0)
    fitting = int(width / (_LEGEND_PATCH_WIDTH + _LETTER_WIDTH * longest))
    return max(1, min(fitting, len(entries)))


def _draw_legend(figure: Figure, entries: Sequence[tuple[str, Colour]], columns: int) -> None:
    if not entries:
        return
    handles = [
        Patch(facecolor=to_rgba(colour, 0.35), edgecolor=colour, linewidth=1.6, label=name)
        for name, colour in entries
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=columns,
        frameon=False,
        fontsize=11,
        labelcolor=INK,
        handlelength=1.2,
        handleheight=1.2,
    )
