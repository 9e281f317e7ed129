"""Rules of autoseg's own: all that makes a plan differ from nnU-Net's for the same data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Rule = Literal["mirror axes", "coarse axis", "residual 2d", "bytes", "large batch", "steady growth"]
RULES: frozenset[Rule] = frozenset(get_args(Rule))
"""All of them; a compatible plan is made with none."""

FITTING_RULES: tuple[Rule, ...] = (
    "coarse axis",
    "residual 2d",
    "bytes",
    "large batch",
    "steady growth",
)
"""Those that decide about patches and batches, in the order they are told."""

SAME_SPACING = 1e-3
"""Spacings that differ by less than this part are equal: more than the rounding of float32 headers
and of spacings derived from positions (1e-5), less than what an axis is made coarser on purpose."""

MAX_BATCH_SIZE = 128
"""Patches in a batch at most. The recipe's learning rate was found with batches of 2 to about 100;
thousands of tiny patches would make a step take minutes and an epoch of 250 steps see the data set
hundreds of times."""

REASONS: dict[Rule, str] = {
    "coarse axis": (
        "spacings that differ by less than a thousandth count as equal, so that rounding in "
        "headers does not turn the axes"
    ),
    "residual 2d": (
        "2D patches of residual networks shrink until a batch of 2 fits, as all others do; "
        "nnU-Net asks for a batch of 12 there"
    ),
    "bytes": (
        "what a training step takes is estimated in bytes and has to fit; nnU-Net's count sees "
        "neither input channels nor what many structures cost in the loss"
    ),
    "large batch": (
        f"a batch holds at most {MAX_BATCH_SIZE} patches: the learning rate was found with small "
        "batches, and a step should not take minutes"
    ),
    "steady growth": (
        "more memory never gives fewer voxels per batch; nnU-Net's rounding of batches does that "
        "where the patch grows by a step"
    ),
}


def coarsest_axis(spacing: Sequence[float], rules: frozenset[Rule]) -> int:
    """The axis with the largest spacing; the first where several are equal.

    Args:
        spacing: mm per axis.
        rules: those in force; "coarse axis" decides what is equal.
    """
    tolerance = SAME_SPACING if "coarse axis" in rules else 0.0
    limit = max(spacing) * (1 - tolerance)
    return next(axis for axis, mm in enumerate(spacing) if mm >= limit)
