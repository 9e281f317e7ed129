"""Patches that show nothing: for a network they are all the same one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor

Region = tuple[slice, ...]
Corner = tuple[int, ...]


def corner_of(tile: Region) -> Corner:
    """The first voxel of a tile."""
    return tuple(part.start for part in tile)


def alike_tiles(image: Tensor, tiles: Sequence[Region]) -> list[Corner]:
    """Find the tiles that show the same single value per channel, as most often occurs.

    Outside a body, or where an image is masked, all voxels of a tile have one value: zero, or
    the one that air is clipped to. A network says the same about each of these tiles.

    Args:
        image: float32 ``(channels, z, y, x)`` on the CPU.
        tiles: parts of it, all of one size.

    Returns:
        Their corners, in order; empty if there are not at least two.
    """
    found: defaultdict[tuple[float, ...], list[Corner]] = defaultdict(list)
    for tile in tiles:
        values = _single_values(image[(slice(None), *tile)])
        if values is not None:
            found[values].append(corner_of(tile))
    most = max(found.values(), key=len, default=[])
    return most if len(most) > 1 else []


def _single_values(tile: Tensor) -> tuple[float, ...] | None:
    """The value of each channel, if it has one only; most tiles are done with after a plane."""
    values = tile[:, :1, :1, :1]
    if all(bool((plane == values[:, 0]).all()) for plane in tile.unbind(1)):
        return tuple(values.flatten().tolist())
    return None
