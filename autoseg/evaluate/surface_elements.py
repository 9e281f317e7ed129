"""How much surface runs between neighbouring voxels: areas in volumes, lengths in pictures.

Between the centres of 2 x 2 x 2 voxels the surface of a structure is a piece that depends only on
which of the eight belong to it: 256 patterns, looked up by number. The pieces are those of
marching cubes, through the middles of the edges that join a voxel inside to one outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

Corner = tuple[int, ...]
Point = tuple[float, ...]
Crossing = frozenset[Corner]
"""The edge between two corners, one inside and one outside."""


@lru_cache(maxsize=64)
def element_sizes(spacing: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Size of the surface in a cell, for every pattern of its corners.

    Corner ``(z, y, x)`` of the cell, each 0 or 1, is bit ``z + 2 * y + 4 * x`` of the pattern;
    in two dimensions corner ``(y, x)`` is bit ``y + 2 * x``. A pattern and its opposite have the
    same size: a structure has the surface of what it leaves.

    Args:
        spacing: mm per axis, two or three of them.

    Returns:
        mm (two axes; 16 patterns) or mm² (three axes; 256 patterns), 0 for all or none inside.

    References:
        Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and
        neck anatomy for radiotherapy, 2018, section "surface Dice"; Lorensen and Cline, Marching
        cubes, 1987. Where corners of a piece lie in no plane the triangles of the smallest area
        are taken, so that the result depends neither on the order nor the sense of the axes.
    """
    corners = _corners(len(spacing))
    sizes = np.zeros(2 ** len(corners))
    for pattern in range(1, len(sizes) // 2):
        inside = [corner for bit, corner in enumerate(corners) if pattern >> bit & 1]
        if len(inside) > len(corners) // 2:
            inside = [corner for corner in corners if corner not in inside]
        sizes[pattern] = sizes[-1 - pattern] = _size(inside, spacing)
    sizes.setflags(write=False)
    return sizes


def _corners(num_axes: int) -> list[Corner]:
    return [corner[::-1] for corner in product((0, 1), repeat=num_axes)]


def _size(inside: Sequence[Corner], spacing: Sequence[float]) -> float:
    segments = [s for face in _faces(len(spacing)) for s in _segments(face, inside)]
    if len(spacing) == 2:
        return sum(math.dist(*_middles(segment, spacing)) for segment in segments)
    return sum(_smallest_area(_middles(loop, spacing)) for loop in _loops(segments))


def _faces(num_axes: int) -> list[list[Corner]]:
    """Corners of every square face, in the order of a walk around it."""
    around = [(0, 0), (0, 1), (1, 1), (1, 0)]
    if num_axes == 2:
        return [list(around)]
    return [
        [(*corner[:axis], side, *corner[axis:]) for corner in around]
        for axis in range(3)
        for side in (0, 1)
    ]


def _segments(face: Sequence[Corner], inside: Sequence[Corner]) -> list[tuple[Crossing, Crossing]]:
    """Where the surface meets a face: around each corner inside, if two lie across from another."""
    edges = [frozenset((face[i - 1], face[i])) for i in range(4)]
    is_in = [corner in inside for corner in face]
    crossed = [i for i in range(4) if is_in[i - 1] != is_in[i]]
    if len(crossed) == 4:
        return [(edges[i], edges[(i + 1) % 4]) for i in range(4) if is_in[i]]
    return [(edges[crossed[0]], edges[crossed[1]])] if crossed else []


def _loops(segments: Sequence[tuple[Crossing, Crossing]]) -> list[list[Crossing]]:
    """Closed polygons out of segments; every crossing is an end of exactly two."""
    left = list(segments)
    loops: list[list[Crossing]] = []
    while left:
        loop = list(left.pop())
        while loop[0] != loop[-1]:
            following = next(s for s in left if loop[-1] in s)
            left.remove(following)
            loop.append(following[1] if following[0] == loop[-1] else following[0])
        loops.append(loop[:-1])
    return loops


def _middles(crossings: Iterable[Crossing], spacing: Sequence[float]) -> list[Point]:
    return [
        tuple(mm * (a + b) / 2 for mm, a, b in zip(spacing, *crossing, strict=True))
        for crossing in crossings
    ]


def _smallest_area(polygon: Sequence[Point]) -> float:
    """Area of a polygon in the triangles that make it smallest."""
    if len(polygon) < 3:
        return 0.0
    return min(
        _triangle(polygon[0], polygon[i], polygon[-1])
        + _smallest_area(polygon[: i + 1])
        + _smallest_area(polygon[i:])
        for i in range(1, len(polygon) - 1)
    )


def _triangle(a: Point, b: Point, c: Point) -> float:
    """Half the length of the cross product of two sides."""
    u, v, w = (q - p for p, q in zip(a, b, strict=True))
    x, y, z = (q - p for p, q in zip(a, c, strict=True))
    return math.hypot(v * z - w * y, w * x - u * z, u * y - v * x) / 2
