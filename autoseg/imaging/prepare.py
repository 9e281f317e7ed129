"""From the raw grid to the network's and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Shape, Triple
from autoseg.core.plan import Recipe
from autoseg.errors import DataError
from autoseg.imaging.boxes import Box, bounding_box, crop, nonzero_mask
from autoseg.imaging.decide import Labels
from autoseg.imaging.normalize import NORMALIZERS, Mask
from autoseg.imaging.operators import Floats
from autoseg.imaging.resample import axis_orders, coarse_axis
from autoseg.imaging.resample_labels import resample_labels
from autoseg.imaging.resizer import Resizer, ValueRange

T = TypeVar("T")

_ROWS = 32

OUTSIDE = -1
"""Label of background outside the non-zero region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What was done to an image's grid: all that is needed to undo it.

    Args:
        shape: raw voxels, ``(z, y, x)``.
        spacing: raw, mm, ``(z, y, x)``.
        transpose: raw axis that became each prepared axis.
        box: the non-zero region, in transposed axes.
        cropped_shape: voxels of the box, in transposed axes.
        prepared_shape: voxels after resampling, in transposed axes.
        target_spacing: mm after resampling, in transposed axes; for a 2D configuration the
            first is the image's own.
    """

    shape: Shape
    spacing: Triple
    transpose: tuple[int, int, int]
    box: Box
    cropped_shape: Shape
    prepared_shape: Shape
    target_spacing: Triple

    @property
    def cropped_spacing(self) -> Triple:
        """Spacing before resampling, mm, in transposed axes."""
        return _transposed(self.spacing, self.transpose)

    def to_json(self) -> dict[str, Any]:
        """The trace as dictionaries, sequences and numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``.

        Raises:
            KeyError: if an entry is missing.
        """
        box = Box(lower=tuple(data["box"]["lower"]), upper=tuple(data["box"]["upper"]))
        names = [name for name in cls.__dataclass_fields__ if name != "box"]
        return cls(box=box, **{name: tuple(data[name]) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A case as the network sees it.

    Args:
        image: float32 ``(channels, z, y, x)``, normalized.
        labels: indices ``(z, y, x)``, ``OUTSIDE`` for background outside the non-zero region;
            None for an image without reference.
        trace: the way back.
    """

    image: Floats
    labels: Labels | None
    trace: Trace


def prepare(
    image: Floats, spacing: Triple, recipe: Recipe, labels: Labels | None = None
) -> Prepared:
    """Transpose, crop to the non-zero region, normalize and resample a case.

    Args:
        image: float32 ``(channels, z, y, x)``, not changed.
        spacing: mm, ``(z, y, x)``.
        recipe: how; a recipe with two spacings is for slices, across which nothing is resampled.
        labels: signed indices ``(z, y, x)``, not changed; None if there are none.

    Raises:
        ValueError: if the number of channels or the shape of the labels does not fit.
        DataError: if intensities do not fit their normalization, or there is no memory for what
            is prepared.
    """
    case = Preparation(image, spacing, recipe, labels)
    prepared = _room_for((len(image), *case.trace.prepared_shape), spacing, recipe)
    start = 0
    for slab in case.slabs():
        stop = start + slab.shape[1]
        prepared[:, start:stop] = slab
        start = stop
    return Prepared(image=prepared, labels=case.labels, trace=case.trace)


def _room_for(shape: tuple[int, ...], spacing: Triple, recipe: Recipe) -> Floats:
    """Memory for what is prepared; ``shape`` begins with the channels."""
    try:
        return np.empty(shape, dtype=np.float32)
    except (MemoryError, ValueError) as error:  # a ValueError where no machine could
        before, after = (" x ".join(f"{mm:g}" for mm in one) for one in (spacing, recipe.spacing))
        raise DataError(
            f"of spacing {before} mm, resampled to {after} mm it would have "
            f"{' x '.join(map(str, shape[1:]))} voxels, more than fit into memory",
            remedy="look at its spacing, and whether the model is the right one",
        ) from error


class Preparation:
    """A case on its way to the network's grid: the labels at once, the image slab by slab.

    Neither the normalized nor the resampled image ever exists as a whole.

    Args:
        image: float32 ``(channels, z, y, x)``, not changed; kept until the slabs are made.
        spacing: mm, ``(z, y, x)``.
        recipe: how; a recipe with two spacings is for slices, across which nothing is resampled.
        labels: signed indices ``(z, y, x)``, not changed; None if there are none.
        ignore_index: label of voxels nobody annotated, if there is one: it says nothing about
            where the non-zero region is.

    Attributes:
        trace: the way back.
        labels: indices of the same type on the network's grid, ``OUTSIDE`` for background
            outside the non-zero region; None for an image without reference.

    Raises:
        ValueError: if the number of channels or the shape of the labels does not fit.
        DataError: if intensities do not fit their normalization.
    """

    def __init__(
        self,
        image: Floats,
        spacing: Triple,
        recipe: Recipe,
        labels: Labels | None = None,
        ignore_index: int | None = None,
    ) -> None:
        _check_fit(image, recipe, labels)
        self.trace, mask = _lay_out(image, spacing, recipe)
        inside = crop(mask, self.trace.box)
        self.labels = None
        if labels is not None:
            cropped = _mark_outside(
                crop(labels.transpose(recipe.transpose), self.trace.box), inside
            )
            inside = inside | ((cropped > 0) & (cropped != ignore_index))
            self.labels = resample_labels(cropped, *self._grid)
        self._channels = crop(_transposed_channels(image, recipe.transpose), self.trace.box)
        self._masks = [inside if masked else None for masked in recipe.use_mask_for_norm]
        self._transforms = [
            NORMALIZERS.get(scheme)(channel, mask, stats)
            for scheme, channel, mask, stats in zip(
                recipe.normalization, self._channels, self._masks, recipe.intensities, strict=True
            )
        ]

    def slabs(self, rows: int = _ROWS) -> Iterator[Floats]:
        """Normalize and resample the image.

        Args:
            rows: of a slab.

        Yields:
            Consecutive slabs, float32 ``(channels, rows, y, x)``, the last one may be thinner:
            together ``(channels, *trace.prepared_shape)``.
        """
        shape, new_shape = self.trace.cropped_shape, self.trace.prepared_shape
        coarse = coarse_axis(self.trace.cropped_spacing, self.trace.target_spacing)
        resizer = Resizer(shape, new_shape, axis_orders(3, coarse), rows)
        channels = range(len(self._channels))
        ranges = [None if shape == new_shape else self._range_of(c, coarse) for c in channels]
        for slab in resizer.slabs:
            thickness = slab.rows.stop - slab.rows.start
            result = np.empty((len(channels), thickness, *new_shape[1:]), dtype=np.float32)
            for channel, within in zip(channels, ranges, strict=True):
                part = self._normalized(channel, slab.window)
                resizer.slab(slab, part, result[channel], within)
            yield result

    def _range_of(self, channel: int, coarse: int | None) -> ValueRange:
        values = ValueRange(self.trace.cropped_shape, coarse)
        size = self.trace.cropped_shape[0]
        for start in range(0, size, _ROWS):
            rows = slice(start, min(start + _ROWS, size))
            values.add(rows, self._normalized(channel, rows))
        return values

    @property
    def _grid(self) -> tuple[Shape, Triple, Triple]:
        """What resampling wants to know: new shape, spacing before and after."""
        return self.trace.prepared_shape, self.trace.cropped_spacing, self.trace.target_spacing

    def _normalized(self, channel: int, rows: slice) -> Floats:
        mask = self._masks[channel]
        part = self._channels[channel][rows]
        return self._transforms[channel](part, None if mask is None else mask[rows])


def _mark_outside(labels: Labels, inside: Mask) -> Labels:
    """A copy of the labels with ``OUTSIDE`` for background that is not inside."""
    marked = labels.copy()
    if not inside.all():
        marked[(marked == 0) & ~inside] = OUTSIDE
    return marked


def _check_fit(image: Floats, recipe: Recipe, labels: Labels | None) -> None:
    if len(image) != len(recipe.normalization):
        raise ValueError(f"expected {len(recipe.normalization)} channels, got {len(image)}")
    if labels is not None and labels.shape != image.shape[1:]:
        raise ValueError(f"image is {image.shape[1:]}, but labels are {labels.shape}")


def _lay_out(image: Floats, spacing: Triple, recipe: Recipe) -> tuple[Trace, Mask]:
    """Decide about the grid; also returns the non-zero mask, in transposed axes."""
    mask = nonzero_mask(image).transpose(recipe.transpose)
    box = bounding_box(mask)
    current = _transposed(spacing, recipe.transpose)
    target = recipe.spacing if len(recipe.spacing) == 3 else (current[0], *recipe.spacing)
    trace = Trace(
        shape=_triple(image.shape[1:]),
        spacing=spacing,
        transpose=recipe.transpose,
        box=box,
        cropped_shape=_triple(box.shape),
        prepared_shape=resampled_shape(_triple(box.shape), current, _triple(target)),
        target_spacing=_triple(target),
    )
    return trace, mask


def trace_of(image: Floats, spacing: Triple, recipe: Recipe) -> Trace:
    """What preparing an image would do to its grid, without preparing it.

    Args:
        image: float32 ``(channels, z, y, x)``, raw.
        spacing: mm, ``(z, y, x)``.
        recipe: how it would be prepared.
    """
    return _lay_out(image, spacing, recipe)[0]


def resampled_shape(shape: Shape, current_spacing: Triple, target_spacing: Triple) -> Shape:
    """Voxels after resampling, at least 1 per axis.

    Args:
        shape: voxels before.
        current_spacing: mm.
        target_spacing: mm.
    """
    z, y, x = (
        max(1, round(current / target * size))
        for size, current, target in zip(shape, current_spacing, target_spacing, strict=True)
    )
    return z, y, x


def _triple(values: Sequence[T]) -> tuple[T, T, T]:
    a, b, c = values
    return a, b, c


def _transposed(values: Triple, transpose: tuple[int, int, int]) -> Triple:
    return _triple([values[axis] for axis in transpose])


def _transposed_channels(
    array: npt.NDArray[Any], transpose: tuple[int, int, int]
) -> npt.NDArray[Any]:
    return array.transpose(0, *(axis + 1 for axis in transpose))
