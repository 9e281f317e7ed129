"""What is drawn for samples whose patches another processor varies.

The draws are those of ``augment.apply``, in the same order from the same generator, noise
included: a sample is the same wherever it is made, but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.train.augmentation.augment import Augmentation, draw_flips
from autoseg.train.augmentation.intensity import Change, DrawnTransform
from autoseg.train.augmentation.warp import Warp


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """What is still to be done to a sample.

    Attributes:
        box: voxels per axis of what was read.
        warp: the first thing to do; None if the box is the patch.
        changes: per transform of the augmentation, in order: of channels, none or some.
        flips: spatial axes to mirror along.
    """

    box: tuple[int, ...]
    warp: Warp | None
    changes: tuple[tuple[Change, ...], ...]
    flips: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unfinished:
    """What is still to be done to a batch.

    Attributes:
        samples: what to do to each.
        channels: number of channels.
        patch_size: of the finished samples.
        masked_channels: channels that are 0 where labels are below 0.
    """

    samples: tuple[Drawn, ...]
    channels: int
    patch_size: tuple[int, ...]
    masked_channels: tuple[int, ...]


def draw_rest(
    box: Sequence[int],
    warp: Warp | None,
    channels: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Drawn:
    """Draw what ``augment.apply`` would draw.

    Args:
        box: voxels per axis of what was read.
        warp: what ``draw_warp`` gave.
        channels: number of channels.
        augmentation: what may happen.
        rng: source of randomness, as ``draw_warp`` left it.

    Raises:
        TypeError: if the augmentation has a transform that is not a ``DrawnTransform``.
    """
    shape = (channels, *augmentation.patch_size)
    changes: list[tuple[Change, ...]] = []
    for transform in augmentation.intensity:
        if not isinstance(transform, DrawnTransform):
            raise TypeError(f"{type(transform).__name__} cannot be drawn apart")
        changes.append(transform.drawn(shape, rng))
    return Drawn(
        box=tuple(box),
        warp=warp,
        changes=tuple(changes),
        flips=draw_flips(augmentation, rng),
    )


def joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays of any shapes, flat, one after the other."""
    return np.concatenate([array.ravel() for array in arrays])
