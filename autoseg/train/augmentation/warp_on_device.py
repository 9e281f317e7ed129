"""Warps of many samples at once, by torch: the points and rules of ``grid`` and its neighbours.

Boxes of any sizes lie behind one another in one flat array; where its own begins, and how far
its neighbours are, is a number per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor

from autoseg.train.augmentation.grid import Grid, straight_axes, strides_of
from autoseg.train.augmentation.warp import Warp, grid_of

# As in label_interpolation: weights this close are equal.
_TIE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Warped:
    """A sample to be warped.

    Attributes:
        image: float32 ``(channels, *box)``.
        labels: int16 ``box``.
        warp: the drawn warp.
    """

    image: Tensor
    labels: Tensor
    warp: Warp


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Points:
    """Points of several boxes, each by its cell and where in the cell it lies.

    Args:
        cells: int64 ``(samples, points)``, flat index of the cell's lowest corner.
        fractions: float32 ``(axes, samples, points)``, 0..1.
        strides: int64 ``(axes, samples, 1)``, distance of neighbours.
    """

    cells: Tensor
    fractions: Tensor
    strides: Tensor

    def corner(self, steps: Sequence[int]) -> Tensor:
        """Flat index of a corner of every cell, int64 ``(samples * points,)``."""
        ways = [stride for stride, step in zip(self.strides, steps, strict=True) if step]
        return (self.cells + sum(ways)).flatten()


def warp_samples(samples: Sequence[Warped], patch_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rotate, scale and shift: images linearly, labels by the strongest label.

    Args:
        samples: one or more, whose boxes have the sizes that ``source_box`` tells.
        patch_size: of the result.

    Returns:
        float32 images ``(samples, channels, *patch)`` and int16 labels ``(samples, *patch)``.
    """
    patch, dimensions = tuple(patch_size), len(samples[0].warp.scales)
    planes, channels = prod(patch[:-dimensions]), len(samples[0].image)
    images = torch.cat([one.image.reshape(channels * planes, -1) for one in samples], dim=1)
    labels = torch.cat([one.labels.reshape(planes, -1) for one in samples], dim=1)
    points = _locate(samples, patch)
    warped = _blend(images, points, ()).view(channels, planes, len(samples), -1)
    picked = _pick(labels, points).view(planes, len(samples), -1)
    return (
        warped.permute(2, 0, 1, 3).reshape(len(samples), channels, *patch),
        picked.transpose(0, 1).reshape(len(samples), *patch),
    )


def _locate(samples: Sequence[Warped], patch: tuple[int, ...]) -> _Points:
    """Where the points of every sample's patch lie in the boxes behind one another."""
    device, begin = samples[0].image.device, 0
    cells: list[Tensor] = []
    fractions: list[Tensor] = []
    strides: list[tuple[int, ...]] = []
    for sample in samples:
        grid = grid_of(sample.warp, patch)
        box = tuple(sample.labels.shape[-len(grid.shape) :])
        strides.append(strides_of(box))
        locate = _located_straight if grid.is_straight else _located
        lows, parts = locate(grid, device)
        cell = torch.full(grid.shape, begin, device=device)
        for low, stride in zip(lows, strides[-1], strict=True):
            cell.add_(low, alpha=stride)
        cells.append(cell.flatten())
        fractions.append(torch.stack([part.expand(grid.shape).flatten() for part in parts]))
        begin += prod(box)
    steps = torch.tensor(strides, device=device).T[:, :, None]
    return _Points(cells=torch.stack(cells), fractions=torch.stack(fractions, 1), strides=steps)


def _located(grid: Grid, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Per axis the voxel before each point, and how far it is from there; float32 positions."""
    *leading, length = grid.shape
    rows = np.indices(leading).reshape(len(leading), -1)
    starts = (grid.origin[:, None] + grid.matrix[:, :-1] @ rows).astype(np.float32)
    along = (grid.matrix[:, -1:] * np.arange(length)).astype(np.float32)
    lows: list[Tensor] = []
    parts: list[Tensor] = []
    for start, way in zip(starts.reshape(-1, *leading, 1), along, strict=True):
        position = torch.from_numpy(start).to(device) + torch.from_numpy(way).to(device)
        whole = position.floor()
        lows.append(whole.long())
        parts.append(position.sub_(whole))
    return lows, parts


def _located_straight(grid: Grid, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """The same for a grid along the axes of the box: what is the same in all rows is kept once."""
    lows: list[Tensor] = []
    parts: list[Tensor] = []
    for number, axis in enumerate(straight_axes(grid)):
        along = [-1 if other == number else 1 for other in range(len(grid.shape))]
        lows.append(torch.tensor(axis.low, device=device).view(along))
        parts.append(torch.tensor(axis.fraction, device=device).view(along))
    return lows, parts


def _blend(flat: Tensor, points: _Points, steps: tuple[int, ...]) -> Tensor:
    """Linear interpolation between two halves of the cells, each interpolated the same way."""
    axis = len(steps)
    if axis == len(points.fractions):
        return flat.index_select(1, points.corner(steps))
    low, high = _blend(flat, points, (*steps, 0)), _blend(flat, points, (*steps, 1))
    return low.lerp_(high, points.fractions[axis].flatten())


def _pick(flat: Tensor, points: _Points) -> Tensor:
    """The label with the largest linear weight at every point, ``(planes, samples * points)``."""
    corners = list(product((0, 1), repeat=len(points.fractions)))
    lowest = flat.index_select(1, points.corner(corners[0]))
    highest = lowest.clone()
    for steps in corners[1:]:
        values = flat.index_select(1, points.corner(steps))
        torch.minimum(lowest, values, out=lowest)
        torch.maximum(highest, values, out=highest)
    planes, places = (lowest != highest).nonzero(as_tuple=True)
    if len(places):
        lowest[planes, places] = _strongest(flat, points, planes, places)
    return lowest


def _strongest(flat: Tensor, points: _Points, planes: Tensor, places: Tensor) -> Tensor:
    """The same for some points, whose cells hold several labels; on ties as on the processes."""
    per_sample = points.cells.shape[1]
    fractions = points.fractions.flatten(1)[:, places]
    strides = points.strides[:, :, 0][:, places // per_sample]
    begin = planes * flat.shape[1] + points.cells.flatten()[places]
    labels = flat.flatten()
    near = labels[begin + ((fractions > 0.5) * strides).sum(0)]
    sides = torch.stack([1.0 - fractions.double(), fractions.double()])
    corners: list[Tensor] = []
    weights: list[Tensor] = []
    for steps in product((0, 1), repeat=len(fractions)):
        offset = sum(stride * step for stride, step in zip(strides, steps, strict=True))
        corners.append(labels[begin + offset])
        chosen = [sides[step, axis] for axis, step in enumerate(steps)]
        weights.append(torch.stack(chosen).prod(0))
    return _heaviest(torch.stack(corners), torch.stack(weights), near)


def _heaviest(corners: Tensor, weights: Tensor, near: Tensor) -> Tensor:
    """The label of most weight of each column; on ties ``near`` if it is one, or the smallest."""
    scores = torch.zeros_like(weights)
    for corner, weight in zip(corners, weights, strict=True):
        scores += torch.where(corners == corner, weight, 0.0)
    is_best = scores >= scores.amax(0) - _TIE
    smallest = torch.where(is_best, corners, torch.iinfo(corners.dtype).max).amin(0)
    return torch.where((is_best & (corners == near)).any(0), near, smallest)
