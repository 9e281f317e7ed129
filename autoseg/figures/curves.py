"""How a training run went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from autoseg.figures.colours import FAINT, INK, Colour, structure_colours
from autoseg.io.atomic import atomic_path

Epochs = Sequence[Mapping[str, Any]]

DOTS_PER_INCH = 100

_MOST_NAMES = 10


def save_curves(path: Path, history: Epochs) -> Path:
    """Write loss, Dice and learning rate over the epochs as PNG.

    Args:
        path: where to.
        history: the epochs, oldest first, as lines of ``history.jsonl``: ``epoch`` (from 0),
            ``train_loss``, ``validation_loss``, ``dice`` by structure name,
            ``mean_dice`` and ``learning_rate``; what is undefined is None.

    Returns:
        ``path``.

    Raises:
        AutosegError: if the file cannot be written.
    """
    figure = curves_figure(history)
    with atomic_path(path) as place:
        figure.savefig(place, format="png")
    return path


def curves_figure(history: Epochs) -> Figure:
    """Draw loss, Dice and learning rate over the epochs.

    Args:
        history: as for ``save_curves``.

    Returns:
        A figure of 1200 pixels width, on an Agg canvas.
    """
    figure = Figure(figsize=(12, 3.8), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, 3, width_ratios=(5, 5, 3), left=0.05, right=0.985, top=0.9, bottom=0.13, wspace=0.2
    )
    loss, dice, rate = (figure.add_subplot(grid[0, column]) for column in range(3))
    _draw_loss(loss, history)
    _draw_dice(dice, history)
    _draw_rate(rate, history)
    return figure


def _draw_loss(axes: Axes, history: Epochs) -> None:
    _style(axes, "loss")
    train, validation = structure_colours(2)
    _line(axes, history, _column(history, "train_loss"), train, "train")
    _line(axes, history, _column(history, "validation_loss"), validation, "validation")
    _legend(axes, "upper right")


def _draw_dice(axes: Axes, history: Epochs) -> None:
    _style(axes, "Dice of the validation patches")
    names = list(dict.fromkeys(name for row in history for name in row["dice"]))
    named = len(names) <= _MOST_NAMES
    for name, colour in zip(names, structure_colours(len(names)), strict=True):
        values = np.array([_number(row["dice"].get(name)) for row in history])
        label, opacity = (name, 1.0) if named else (None, 0.35)
        _line(axes, history, values, colour, label, opacity=opacity)
    if len(names) > 1:
        _line(axes, history, _column(history, "mean_dice"), INK, "mean", dashed=True)
    axes.set_ylim(0, 1)
    _legend(axes, "lower right")


def _draw_rate(axes: Axes, history: Epochs) -> None:
    _style(axes, "learning rate")
    _line(axes, history, _column(history, "learning_rate"), structure_colours(1)[0])
    axes.set_ylim(bottom=0)
    # The usual formatter would set a power of ten where the title stands.
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))


def _line(
    axes: Axes,
    history: Epochs,
    values: npt.NDArray[np.float64],
    colour: Colour | str,
    label: str | None = None,
    *,
    dashed: bool = False,
    opacity: float = 1.0,
) -> None:
    """One curve; a single epoch is a dot, as a line of one point cannot be seen."""
    axes.plot(
        [row["epoch"] + 1 for row in history],
        values,
        color=colour,
        label=label,
        linestyle="--" if dashed else "-",
        alpha=opacity,
        linewidth=1.6,
        marker="o" if len(history) == 1 else "",
        markersize=4,
    )


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, size=11, weight="bold", color=INK, loc="left")
    axes.set_xlabel("epoch", size=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.tick_params(labelsize=9, labelcolor=INK, color=FAINT)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


def _legend(axes: Axes, place: Literal["upper right", "lower right"]) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc=place, fontsize=9, labelcolor=INK, framealpha=0.85, edgecolor=FAINT)


def _column(history: Epochs, key: str) -> npt.NDArray[np.float64]:
    return np.array([_number(row[key]) for row in history], dtype=np.float64)


def _number(value: float | None) -> float:
    return np.nan if value is None else value
