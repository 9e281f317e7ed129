"""From the raw grid to the network's and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Shape, Triple
from autoseg.core.plan import Recipe
from autoseg.imaging.boxes import Box, bounding_box, crop, nonzero_mask
from autoseg.imaging.normalize import NORMALIZERS, Mask
from autoseg.imaging.resample import (
    Floats,
    Resizer,
    axis_orders,
    coarse_axis,
    resample_image,
)
from autoseg.imaging.resample_labels import resample_labels

Labels = npt.NDArray[np.int16]
Positions = npt.NDArray[np.int64]
T = TypeVar("T")

OUTSIDE = -1
"""Label of background outside the non-zero region."""

MAX_POSITIONS = 10_000
"""Positions kept per structure, unless one in a hundred is more."""


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
        labels: int16 indices ``(z, y, x)``, ``OUTSIDE`` for background outside the non-zero
            region; None for an image without reference.
        trace: the way back.
    """

    image: Floats
    labels: Labels | None
    trace: Trace


def prepare(
    image: Floats, spacing: Triple, recipe: Recipe, labels: Labels | None = None
) -> Prepared:
    """Transpose, crop to the non-zero region, normalize and resample.

    Args:
        image: float32 ``(channels, z, y, x)``, not changed.
        spacing: mm, ``(z, y, x)``.
        recipe: how; a recipe with two spacings is for slices, across which nothing is resampled.
        labels: int16 indices ``(z, y, x)``, not changed; None if there are none.

    Raises:
        ValueError: if the number of channels or the shape of the labels does not fit.
        DataError: if intensities do not fit their normalization.
    """
    _check_fit(image, recipe, labels)
    trace, mask = _lay_out(image, spacing, recipe)
    inside = crop(mask, trace.box)
    cropped_labels = None
    if labels is not None:
        cropped_labels = crop(labels.transpose(recipe.transpose), trace.box).astype(np.int16)
        cropped_labels[(cropped_labels == 0) & ~inside] = OUTSIDE
        inside = cropped_labels >= 0
    cropped = crop(_transposed_channels(image, recipe.transpose), trace.box)
    normalized = _normalized(cropped, inside, recipe)
    grid = (trace.prepared_shape, trace.cropped_spacing, trace.target_spacing)
    return Prepared(
        image=resample_image(normalized, *grid),
        labels=None if cropped_labels is None else resample_labels(cropped_labels, *grid),
        trace=trace,
    )


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


def _normalized(image: Floats, inside: Mask, recipe: Recipe) -> Floats:
    """Normalize every channel into a new, contiguous array."""
    result = np.empty(image.shape, dtype=np.float32)
    for index, scheme in enumerate(recipe.normalization):
        mask = inside if recipe.use_mask_for_norm[index] else None
        result[index] = NORMALIZERS.get(scheme)(image[index], mask, recipe.intensities[index])
    return result


def restore_argmax(logits: Floats, trace: Trace) -> Labels:
    """The most likely label of every raw voxel.

    Works slab by slab and class by class: logits on the raw grid never exist as a whole.

    Args:
        logits: float32 ``(classes, *trace.prepared_shape)``.
        trace: of the image they were predicted from.

    Returns:
        int16 ``trace.shape``: the lowest of the labels with the largest logit; 0 outside the
        non-zero region's bounding box.

    Raises:
        ValueError: if the logits are on another grid.
    """
    labels = np.zeros(trace.shape, dtype=np.int16)
    inside = crop(labels.transpose(trace.transpose), trace.box)
    for rows, classes in _restored_slabs(logits, trace):
        inside[rows] = _argmax(classes)
    return labels


def _argmax(classes: Iterator[Floats]) -> Labels:
    """Argmax over a stream of equally shaped arrays; of equal ones the first counts."""
    largest = next(classes).copy()
    winner = np.zeros(largest.shape, dtype=np.int16)
    for index, values in enumerate(classes, start=1):
        winner[values > largest] = index
        np.maximum(largest, values, out=largest)
    return winner


def restore_probabilities(logits: Floats, trace: Trace) -> Floats:
    """The probability of every class in every raw voxel.

    Args:
        logits: float32 ``(classes, *trace.prepared_shape)``.
        trace: of the image they were predicted from.

    Returns:
        float32 ``(classes, *trace.shape)``, summing to 1 over classes; outside the non-zero
        region's bounding box class 0 has it all.

    Raises:
        ValueError: if the logits are on another grid.
    """
    probabilities = np.zeros((len(logits), *trace.shape), dtype=np.float32)
    probabilities[0] = 1.0
    inside = crop(_transposed_channels(probabilities, trace.transpose), trace.box)
    for rows, classes in _restored_slabs(logits, trace):
        inside[:, rows] = _softmax(np.stack(list(classes)))
    return probabilities


def _softmax(logits: Floats) -> Floats:
    """Softmax over the first axis, in place."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits


def _restored_slabs(logits: Floats, trace: Trace) -> Iterator[tuple[slice, Iterator[Floats]]]:
    """Slabs of the cropped grid, each with one array per class, resampled when asked for."""
    if logits.shape[1:] != trace.prepared_shape:
        raise ValueError(f"logits are {logits.shape[1:]}, the image was {trace.prepared_shape}")
    coarse = coarse_axis(trace.target_spacing, trace.cropped_spacing)
    orders = axis_orders(1, coarse)
    resizer = Resizer(trace.prepared_shape, trace.cropped_shape, orders)
    for slab in resizer.slabs:
        window = logits[:, slab.window]
        yield slab.rows, (resizer.slab(slab, values) for values in window)


def foreground_positions(
    labels: npt.NDArray[np.integer],
    indices_per_structure: Sequence[tuple[int, ...]],
    rng: np.random.Generator,
) -> list[Positions]:
    """Draw voxels of each structure, for patches to be centred on.

    Draws all voxels of a small structure, ``MAX_POSITIONS`` of a larger one, but at least one
    in a hundred.

    Args:
        labels: integer ``(z, y, x)``.
        indices_per_structure: the labels each structure is made of.
        rng: draws them.

    Returns:
        Per structure int64 indices into the flat labels, without repetition, in random order;
        none for a structure that is absent.
    """
    return [_draw_positions(labels, indices, rng) for indices in indices_per_structure]


def _draw_positions(
    labels: npt.NDArray[np.integer], indices: Sequence[int], rng: np.random.Generator
) -> Positions:
    member = np.zeros(labels.shape, dtype=bool)
    for index in indices:
        member |= labels == index
    slices = member.reshape(len(member), -1)
    ends = np.cumsum(np.count_nonzero(slices, axis=1))
    total = int(ends[-1])
    wanted = max(min(MAX_POSITIONS, total), ceil(0.01 * total))
    # Ranks are looked up slice by slice: listing all positions of a large structure would
    # take eight bytes for each of its voxels.
    ranks = rng.choice(total, wanted, replace=False) if total else np.empty(0, dtype=np.int64)
    homes = np.searchsorted(ends, ranks, side="right")
    positions = np.empty(wanted, dtype=np.int64)
    for home in np.unique(homes):
        chosen = homes == home
        local = np.flatnonzero(slices[home])
        first_rank = ends[home] - len(local)
        positions[chosen] = local[ranks[chosen] - first_rank] + home * slices.shape[1]
    return positions
