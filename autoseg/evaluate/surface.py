"""Distances between the surfaces of a segmentation and its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from autoseg.evaluate.surface_elements import element_sizes

ROUNDING = 1e-6
"""Share by which a distance may exceed the tolerance: headers round the spacing."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceScores:
    """How far two surfaces lie apart.

    Attributes:
        hd95: 95th percentile of the distances, the larger of both directions; None without two
            surfaces.
        assd: mean distance over both surfaces; None without two surfaces.
        nsd: share of both surfaces that lies within the tolerance, 0 to 1; None without any.
    """

    hd95: float | None
    assd: float | None
    nsd: float | None


@dataclass(frozen=True, slots=True)
class _Surface:
    """Elements of a surface: where they are (cell of the box, flat) and how large."""

    cells: npt.NDArray[np.intp]
    sizes: Floats


def compare_surfaces(
    prediction: npt.NDArray[np.bool_],
    reference: npt.NDArray[np.bool_],
    spacing: Sequence[float],
    tolerance_mm: float,
) -> SurfaceScores:
    """Measure the distances between two surfaces, every element weighed by its size.

    The border of the arrays counts as surface where a structure reaches it.

    Args:
        prediction: ``(z, y, x)``, or ``(y, x)`` for distances within a plane.
        reference: of the same shape.
        spacing: mm per axis.
        tolerance_mm: distance up to which surfaces agree.

    Returns:
        The scores, in mm.

    References:
        Nikolov et al. 2018 (see ``surface_elements``). Unlike there a distance that exceeds the
        tolerance by a rounding error is within it.
    """
    steps = tuple(map(float, spacing))
    predicted, true = _surface(prediction, steps), _surface(reference, steps)
    total = float(predicted.sizes.sum() + true.sizes.sum())
    if not len(predicted.cells) or not len(true.cells):
        return SurfaceScores(hd95=None, assd=None, nsd=0.0 if total else None)
    grid = tuple(size + 1 for size in prediction.shape)
    ways = [
        (predicted, _distances(predicted, true, grid, steps)),
        (true, _distances(true, predicted, grid, steps)),
    ]
    reach = tolerance_mm * (1 + ROUNDING)
    return SurfaceScores(
        hd95=max(_percentile(distances, way.sizes, 0.95) for way, distances in ways),
        assd=sum(float(distances @ way.sizes) for way, distances in ways) / total,
        nsd=sum(float(way.sizes[distances <= reach].sum()) for way, distances in ways) / total,
    )


def _surface(mask: npt.NDArray[np.bool_], spacing: tuple[float, ...]) -> _Surface:
    """Find the cells, between the voxels and around them, that the surface runs through."""
    patterns = np.pad(mask, 1).view(np.uint8)
    for axis in range(mask.ndim):
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        patterns = patterns[lower] | patterns[upper] << (1 << axis)
    sizes = element_sizes(spacing)
    flat = patterns.ravel()
    cells = np.flatnonzero((flat != 0) & (flat != len(sizes) - 1))
    return _Surface(cells, sizes[flat[cells]])


def _distances(
    start: _Surface, goal: _Surface, grid: tuple[int, ...], spacing: tuple[float, ...]
) -> Floats:
    """Distance of every element of a surface to the nearest of another, in mm."""
    apart = np.flatnonzero(~np.isin(start.cells, goal.cells, assume_unique=True))
    distances = np.zeros(len(start.cells))
    if not len(apart):
        return distances
    begin = np.stack(np.unravel_index(start.cells[apart], grid), axis=1)
    end = np.stack(np.unravel_index(goal.cells, grid), axis=1)
    tree = KDTree(end * np.asarray(spacing), balanced_tree=False, compact_nodes=False)
    nearest = tree.query(begin * np.asarray(spacing))[1]
    # From whole numbers of voxels: differences of positions would be off by rounding.
    distances[apart] = np.linalg.norm((begin - end[nearest]) * np.asarray(spacing), axis=1)
    return distances


def _percentile(distances: Floats, sizes: Floats, share: float) -> float:
    """The distance that a share of the surface does not exceed."""
    order = np.argsort(distances)
    reached = np.cumsum(sizes[order])
    index = int(np.searchsorted(reached, share * reached[-1]))
    return float(distances[order[min(index, len(order) - 1)]])
