"""Grey values, colours, palettes and transparency of pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.errors import DataError

logger = logging.getLogger(__name__)

_MOST_COLOURS_TOLD = 6
SWAPPED_ORIENTATIONS = (5, 6, 7, 8)
"""Orientations, as EXIF and TIFF number them, that swap height and width."""


def numbers_of(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pixels of one bit as black, 0, and white, 255; all others as they are, in native order.

    Args:
        array: pixels of any shape and type.
    """
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn stored pixels as they are meant to be seen.

    Args:
        array: ``(..., y, x)``.
        orientation: 1 to 8, as EXIF and TIFF number them.
    """
    if orientation in SWAPPED_ORIENTATIONS:
        array = np.swapaxes(array, -1, -2)
    if orientation in (3, 4, 7, 8):
        array = np.flip(array, -2)
    return np.flip(array, -1) if orientation in (2, 3, 6, 7) else array


def is_grey(table: npt.NDArray[np.uint8]) -> bool:
    """Whether a palette ``(entries, 3)`` holds no colours."""
    return bool((table == table[:, :1]).all())


def coloured(indices: npt.NDArray[np.uint8], table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The colours an indexed picture shows.

    Args:
        indices: ``(y, x)``.
        table: the palette, ``(entries, 3)``; entries it lacks are black.

    Returns:
        ``(channels, y, x)``: one channel if the palette is grey, else red, green and blue.
    """
    entries = np.zeros((256, 3), np.uint8)
    entries[: len(table)] = table
    if is_grey(table):
        return entries[:, 0][indices][np.newaxis]
    return np.stack([entries[:, colour][indices] for colour in range(3)])


def indexed_labels(
    indices: npt.NDArray[np.uint8], table: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """The labels an indexed picture holds: its indices.

    A palette that rises evenly from black to white is another way to store a grey picture; then
    the labels are the grey values.

    Args:
        indices: ``(y, x)``.
        table: the palette, ``(entries, 3)``.
    """
    ramp = np.rint(np.linspace(0, 255, len(table)))
    is_ramp = is_grey(table) and np.array_equal(table[:, 0], ramp)
    return coloured(indices, table)[0] if is_ramp else indices


def grey_labels(array: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """The labels of a picture that may be stored in colours.

    Args:
        array: ``(channels, ...)``.
        path: where it comes from, for the message.

    Raises:
        DataError: if the channels differ; it lists the most frequent colours.
    """
    if all(np.array_equal(channel, array[0]) for channel in array[1:]):
        return array[0]
    if len(array) != 3:
        raise DataError(f"a label map has one channel, this has {len(array)}", place=path)
    colours, counts = np.unique(array.reshape(3, -1), axis=1, return_counts=True)
    frequent = colours.T[np.argsort(-counts, kind="stable")][:_MOST_COLOURS_TOLD]
    told = ", ".join(str(tuple(colour.tolist())) for colour in frequent)
    rest = " and others" if len(counts) > len(frequent) else ""
    raise DataError(
        f"the labels are {len(counts)} colours, not values: {told}{rest}",
        place=path,
        remedy="export a grey-value picture, or an indexed one with a palette entry per structure",
    )


def tell_transparency(alpha: npt.NDArray[Any], path: Path) -> None:
    """Say at debug level if a channel of transparency that is left out held something.

    Args:
        alpha: its values, any shape.
        path: where it comes from.
    """
    if logger.isEnabledFor(logging.DEBUG) and alpha.min() != alpha.max():
        logger.debug("%s: the alpha channel is not constant; it is left out", path)
