"""How far the passes of a sliding window agree, counted while they come in."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, prod

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_Region = tuple[slice, ...]

# Values looked at per voxel of a pass, at most; with more, only every so many rows are. Of the
# time that the fastest networks take on a CPU, either is about a fiftieth.
_VOTES_PER_VOXEL = 8
_LIKELY_PER_VOXEL = 4


class Agreement:
    """Counts what mirrored passes, networks and probabilities say about the result.

    A voxel counts once, in the tile in which it lies deepest; nothing is kept of a volume.
    Every value is per output of the networks, without the background class, and None of an
    output that is nowhere decided for.

    Args:
        has_regions: whether each output decides for itself (above 0), instead of the largest of
            all.
    """

    def __init__(self, has_regions: bool) -> None:
        self._has_regions = has_regions
        self._owned: list[dict[int, slice]] = []
        self._shape = (0, 0, 0)
        self._mirrors = _Pairs(1)
        self._folds = _Pairs(1)
        self._flips: Tensor | None = None
        self._num_flips = 0
        self._networks: dict[tuple[int, ...], tuple[int, Tensor]] = {}
        self._is_off = False
        self._budget = 0
        self._overlap = self._size = torch.zeros((), dtype=torch.float64)

    def begin(self, tiles: Sequence[_Region], num_flips: int, num_networks: int) -> None:
        """Get ready for a volume.

        Args:
            tiles: where on the volume outputs will come from.
            num_flips: mirrored passes per tile, the one that is not mirrored among them.
            num_networks: whose outputs will be averaged.
        """
        self._owned = [_owned_along(tiles, axis) for axis in range(3)]
        self._mirrors, self._folds = _Pairs(num_flips), _Pairs(num_networks)
        passed = sum(prod(part.stop - part.start for part in tile) for tile in tiles)
        self._budget = _LIKELY_PER_VOXEL * passed * num_flips * num_networks
        self._shape = tuple(max(tile[axis].stop for tile in tiles) for axis in range(3))

    def add_flip(self, tile: _Region, outputs: Tensor) -> None:
        """Count one pass over a tile.

        Args:
            tile: where it lies.
            outputs: ``(outputs, *tile)``, mirrored back.
        """
        if self._mirrors.count < 2 or self._is_off:
            return
        try:
            self._flips = _added(self._flips, self._votes(tile, outputs), self._mirrors)
            self._num_flips += 1
            if self._num_flips == self._mirrors.count:
                self._mirrors.take(self._flips)
                self._flips, self._num_flips = None, 0
        except torch.OutOfMemoryError:
            self._give_up()

    def add_network(self, tile: _Region, outputs: Tensor) -> None:
        """Count what one network says of a tile.

        Args:
            tile: where it lies.
            outputs: ``(outputs, *tile)``, the sum over its passes.
        """
        if self._folds.count < 2 or self._is_off:
            return
        corner = tuple(part.start for part in tile)
        try:
            count, votes = self._networks.pop(corner, (0, None))
            votes = _added(votes, self._votes(tile, outputs), self._folds)
            if count + 1 == self._folds.count:
                self._folds.take(votes)
            else:
                self._networks[corner] = count + 1, votes
        except torch.OutOfMemoryError:
            self._give_up()

    def watch(self, slabs: Iterator[Tensor]) -> Iterator[Tensor]:
        """Look at final logits that pass by.

        Args:
            slabs: float32 ``(outputs, rows, *others)`` on the CPU.

        Yields:
            The same.
        """
        start = 0
        for slab in slabs:
            step = ceil(len(slab) * prod(self._shape) / max(self._budget, 1))
            # Row by row, because copies of a slab would be as large as the window's buffer.
            for row in slab[:, -start % step :: step].unbind(1):
                self._expect(row)
            start += slab.shape[1]
            yield slab

    @property
    def mirrors(self) -> list[float | None]:
        """Mean Dice of any two mirrored passes; empty if there was one, or no memory."""
        return [] if self._is_off else self._mirrors.dice()

    @property
    def folds(self) -> list[float | None]:
        """Mean Dice of any two networks; empty if there was one, or no memory."""
        return [] if self._is_off else self._folds.dice()

    @property
    def expected(self) -> list[float | None]:
        """Dice of the decisions, were the probabilities right; empty if nothing was watched."""
        if self._size.ndim == 0:
            return []
        pairs = zip(self._overlap.tolist(), self._size.tolist(), strict=True)
        return [2 * overlap / size if overlap > 0 else None for overlap, size in pairs]

    def _votes(self, tile: _Region, outputs: Tensor) -> Tensor:
        """Which outputs are decided for in the tile's own voxels."""
        own = [known[part.start] for known, part in zip(self._owned, tile, strict=True)]
        inside = outputs[(slice(None), *own[4 - outputs.ndim :])]
        step = ceil(inside.numel() / (_VOTES_PER_VOXEL * outputs[0].numel()))
        inside = inside[:, ::step]
        if self._has_regions:
            return inside > 0
        return inside[1:] == inside.amax(0)

    def _expect(self, logits: Tensor) -> None:
        if self._has_regions:
            likely = logits.sigmoid()
            decided = logits > 0
        else:
            likely = logits.softmax(0)[1:]
            decided = logits[1:] == logits.amax(0)
        others = tuple(range(1, logits.ndim))
        # Sums of a row are exact enough in float32, those of a volume are not.
        self._overlap = self._overlap + (likely * decided).sum(others).double()
        self._size = self._size + (likely.sum(others) + decided.sum(others)).double()

    def _give_up(self) -> None:
        """The result is worth more than what is said about it."""
        logger.debug("the GPU is short of memory: the agreement of passes is not counted")
        self._is_off = True
        self._flips = None
        self._networks.clear()


class _Pairs:
    """Dice of any two of some decisions, from how many of them are for each voxel.

    Of ``k`` decisions for a voxel, ``k (k - 1)`` ordered pairs meet there, and each decision takes
    part in ``count - 1`` pairs.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.dtype = torch.uint8 if count < 16 else torch.int32  # holds the square
        self._sum = self._squares = torch.zeros((), dtype=torch.int64)

    def take(self, votes: Tensor) -> None:
        """Take voxels in: how many decisions are for each output, ``(outputs, *voxels)``."""
        others = tuple(range(1, votes.ndim))
        total = votes.sum(others, dtype=torch.int64)
        self._squares = self._squares.to(votes.device) + (votes * votes).sum(
            others, dtype=torch.int64
        )
        self._sum = self._sum.to(votes.device) + total

    def dice(self) -> list[float | None]:
        """By output; empty if nothing was taken in."""
        if self._sum.ndim == 0:
            return []
        pairs = zip(self._sum.tolist(), self._squares.tolist(), strict=True)
        return [(squares - n) / ((self.count - 1) * n) if n else None for n, squares in pairs]


def _added(votes: Tensor | None, more: Tensor, pairs: _Pairs) -> Tensor:
    if votes is None:
        return more.to(pairs.dtype)
    return votes.to(more.device).add_(more)


def _owned_along(tiles: Sequence[_Region], axis: int) -> dict[int, slice]:
    """By start of a tile along an axis, which of its voxels lie deeper in it than in any other.

    Neighbours meet in the middle of their overlap, so that together they own every voxel once.
    """
    stops = {tile[axis].start: tile[axis].stop for tile in tiles}
    starts = sorted(stops)
    meets = [(stops[s] + t) // 2 for s, t in pairwise(starts)]
    bounds = [starts[0], *meets, stops[starts[-1]]]
    return {
        start: slice(bounds[i] - start, bounds[i + 1] - start) for i, start in enumerate(starts)
    }
