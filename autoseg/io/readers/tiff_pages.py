"""Which pages, axes and samples of a TIFF are the image."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autoseg.errors import DataError
from autoseg.io.readers import colours

if TYPE_CHECKING:
    import tifffile

logger = logging.getLogger(__name__)

_MOST_IMAGEJ_CHANNELS = 7
_DEPTH_AXES = "ZIQ"
_CHANNEL_AXES = "CS"
_ALPHA_SAMPLES = (1, 2)
# Numbers of the TIFF specification.
_RGB, _PALETTE, _YCBCR = 2, 3, 6
_REFUSED_COLOURS = {5: "CMYK", _YCBCR: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"}
_JPEG = 7
_LOSSY_COMPRESSIONS = (6, _JPEG, 34892)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages of a TIFF that are the image.

    Attributes:
        series: what tifffile groups them into; several are slices of one shape.
        index: number of the first series in the file.
        axes: letters of the axes of ``shape``: depth, C channels, S samples of a pixel, Y, X.
        shape: sizes, those of one left out except for Y and X.
        samples: which samples of a pixel are channels; the others are transparency.
        palette: colours ``(entries, 3)`` of an indexed 2D picture, or None.
    """

    series: tuple[tifffile.TiffPageSeries, ...]
    index: int
    axes: str
    shape: tuple[int, ...]
    samples: tuple[int, ...]
    palette: npt.NDArray[np.uint8] | None

    @property
    def zyx(self) -> tuple[int, int, int]:
        """Size of the image; a 2D image has one slice."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        depth = next((sizes[axis] for axis in _DEPTH_AXES if axis in sizes), 1)
        return depth, sizes["Y"], sizes["X"]

    @property
    def is_volume(self) -> bool:
        """Whether there is more than one slice."""
        return self.zyx[0] > 1

    @property
    def num_channels(self) -> int:
        """Channels of the image, colours of a palette included."""
        if self.palette is not None:
            return 1 if colours.is_grey(self.palette) else 3
        sizes = dict(zip(self.axes, self.shape, strict=True))
        return sizes.get("C", 1) * len(self.samples)

    @property
    def is_lossy(self) -> bool:
        """Whether the pixels are compressed as photographs are."""
        return self.series[0].keyframe.compression in _LOSSY_COMPRESSIONS

    def pixels(self, path: Path) -> npt.NDArray[Any]:
        """Read ``(channels, z, y, x)``, indices where there is a palette.

        Args:
            path: the file, for messages.
        """
        parts = [series.asarray() for series in self.series]
        array = parts[0] if len(parts) == 1 else np.stack(parts)
        array = colours.numbers_of(array.reshape(self.shape))
        depth = next((axis for axis in self.axes if axis in _DEPTH_AXES), "")
        order = [axis for axis in f"CS{depth}YX" if axis in self.axes]
        array = array.transpose([self.axes.index(axis) for axis in order])
        num_samples = dict(zip(self.axes, self.shape, strict=True)).get("S", 1)
        array = array.reshape(-1, num_samples, *self.zyx)
        left_out = [i for i in range(num_samples) if i not in self.samples]
        if left_out:
            colours.tell_transparency(array[:, left_out], path)
            array = array[:, list(self.samples)]
        return array.reshape(-1, *self.zyx)


def find_pages(file: tifffile.TiffFile, path: Path) -> Pages:
    """Find the image in a file.

    The first of several images, but the largest if their shapes differ, as those of the levels
    of a pyramid do; images of one page each and one shape are slices.

    Args:
        file: the open file.
        path: its path, for messages.

    Raises:
        DataError: if there is no image, or it is no volume of numbers, grey or coloured.
    """
    if not file.series:
        raise DataError("holds no image", place=path)
    series = _chosen(list(file.series), path)
    first = series[0]
    _refuse_missing_planes(first, path)
    axes, shape = first.axes, first.shape
    if len(series) > 1:
        axes, shape = f"Q{axes}", (len(series), *shape)
    kept = [i for i, axis in enumerate(axes) if axis in "YX" or shape[i] > 1]
    axes, shape = "".join(axes[i] for i in kept), tuple(shape[i] for i in kept)
    if _are_slices(file, axes, shape):
        axes = axes.replace("C", "Z")
    _check_axes(axes, shape, path)
    page = first.keyframe
    _check_kind(first, path)
    is_flat_picture = not file.is_imagej and set(axes) == {"Y", "X"}
    # The palette of a stack, or from ImageJ, says how to show intensities.
    has_palette = page.photometric == _PALETTE and is_flat_picture
    num_samples = dict(zip(axes, shape, strict=True)).get("S", 1)
    return Pages(
        series=tuple(series),
        index=file.series.index(first),
        axes=axes,
        shape=shape,
        samples=_samples(page, num_samples),
        palette=_palette(page) if has_palette else None,
    )


def _are_slices(file: tifffile.TiffFile, axes: str, shape: tuple[int, ...]) -> bool:
    """Whether what an ImageJ file calls channels are slices, as some programs write a stack.

    They have a distance, or are more than ImageJ shows as channels.
    """
    if not file.is_imagej or "C" not in axes or set(axes) & set(_DEPTH_AXES):
        return False
    has_distance = "spacing" in (file.imagej_metadata or {})
    return has_distance or shape[axes.index("C")] > _MOST_IMAGEJ_CHANNELS


def _chosen(series: list[tifffile.TiffPageSeries], path: Path) -> list[tifffile.TiffPageSeries]:
    first = series[0]
    if len(series) == 1:
        return series
    is_same = all(s.shape == first.shape and s.dtype == first.dtype for s in series)
    if is_same and first.kind != "ome" and all(s.axes == "YX" for s in series):
        return series  # a stack whose slices were written one by one
    largest = first if is_same else max(series, key=lambda s: s.size)
    logger.debug("%s: %d images, read %s %s", path, len(series), largest.axes, largest.shape)
    return [largest]


def _refuse_missing_planes(series: tifffile.TiffPageSeries, path: Path) -> None:
    num_missing = sum(page is None for page in series.pages)
    if num_missing:
        raise DataError(
            f"{num_missing} of its {len(series.pages)} planes are in other files, which are not "
            "beside it",
            place=path,
            remedy="save all planes in one file",
        )


def _check_axes(axes: str, shape: tuple[int, ...], path: Path) -> None:
    sizes = dict(zip(axes, shape, strict=True))
    if "T" in sizes:
        raise DataError(
            f"a time series of {sizes['T']} frames",
            place=path,
            remedy="save each frame in a file of its own; if the frames are slices, say so in "
            "ImageJ under Image > Properties",
        )
    num_depths = sum(axes.count(axis) for axis in _DEPTH_AXES)
    known = set(_DEPTH_AXES + _CHANNEL_AXES + "YX")
    if num_depths > 1 or set(axes) - known or not {"Y", "X"} <= set(axes):
        raise DataError(
            f"axes {axes} of size {shape} are no image or volume",
            place=path,
            remedy="save it with the axes ZCYX, in that order",
        )


def _check_kind(series: tifffile.TiffPageSeries, path: Path) -> None:
    page = series.keyframe
    colours_of_jpeg = page.photometric == _YCBCR and page.compression == _JPEG
    refused = None if colours_of_jpeg else _REFUSED_COLOURS.get(page.photometric)
    if refused is not None:
        raise DataError(f"its colours are stored as {refused}", place=path, remedy="save it as RGB")
    if series.dtype is None or series.dtype.kind not in "biuf":
        raise DataError(
            f"pixels of type {series.dtype} are not read", place=path, remedy="save real numbers"
        )


def _samples(page: tifffile.TiffPage, num_samples: int) -> tuple[int, ...]:
    """Which samples of a pixel are not transparency."""
    extra = tuple(page.extrasamples)
    if page.photometric in (_RGB, _YCBCR) and not extra:
        return tuple(range(min(num_samples, 3)))
    first_extra = num_samples - len(extra)
    alpha = {first_extra + i for i, kind in enumerate(extra) if kind in _ALPHA_SAMPLES}
    return tuple(i for i in range(num_samples) if i not in alpha)


def _palette(page: tifffile.TiffPage) -> npt.NDArray[np.uint8] | None:
    colormap = page.colormap
    # It has 16 bits, of which programs fill the upper 8, or all alike.
    return None if colormap is None else (np.asarray(colormap).T >> 8).astype(np.uint8)
