"""Batches varied where the network is computed: all samples that drew a change get it together.

Not imported by the processes that make batches, which do without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from autoseg.train.augmentation.augment import Augmentation
from autoseg.train.augmentation.drawn import Drawn, Unfinished
from autoseg.train.augmentation.intensity import (
    Blur,
    Brightness,
    Change,
    Contrast,
    Gamma,
    LowResolution,
    Noise,
)
from autoseg.train.augmentation.intensity_on_device import make_changes
from autoseg.train.augmentation.local_intensity import (
    BlankRectangles,
    BrightnessGradient,
    LocalGamma,
    Offset,
    Sharpen,
)
from autoseg.train.augmentation.warp_on_device import Warped, warp_samples

_OURS = (
    *(Noise, Blur, Brightness, Contrast, LowResolution, Gamma),
    *(Offset, BlankRectangles, BrightnessGradient, LocalGamma, Sharpen),
)


def foreign_transform(augmentation: Augmentation) -> str | None:
    """Name of a transform that only the processes can make, such as another package's; or None."""
    names = (type(one).__name__ for one in augmentation.intensity if type(one) not in _OURS)
    return next(names, None)


@torch.no_grad()
def finish(images: Tensor, labels: Tensor, unfinished: Unfinished) -> tuple[Tensor, Tensor]:
    """Do what is still to be done to a batch, as ``augment.apply`` would.

    Args:
        images: float32, what was read of all samples, flat, one after the other; not changed.
        labels: int16, likewise.
        unfinished: what to do.

    Returns:
        float32 images ``(batch, channels, *patch)`` and int16 label indices ``(batch, *patch)``,
        equal to those of the processes but for rounding: of sums in images, and of ties in labels.
    """
    images, labels = _patches(images, labels, unfinished)
    _vary_intensities(images, unfinished.samples)
    _mirror(images, labels, unfinished.samples)
    for channel in unfinished.masked_channels:
        images[:, channel].masked_fill_(labels < 0, 0.0)
    return images, labels.clamp_(min=0)


def _patches(images: Tensor, labels: Tensor, unfinished: Unfinished) -> tuple[Tensor, Tensor]:
    """Cut the samples apart, and warp those that drew it."""
    samples, patch, channels = unfinished.samples, unfinished.patch_size, unfinished.channels
    sizes = [prod(sample.box) for sample in samples]
    parts = zip(images.split([channels * size for size in sizes]), labels.split(sizes), strict=True)
    out = images.new_empty((len(samples), channels, *patch))
    out_labels = labels.new_empty((len(samples), *patch))
    warped: list[Warped] = []
    places: list[int] = []
    for place, (sample, (part, part_labels)) in enumerate(zip(samples, parts, strict=True)):
        if sample.warp is None:
            out[place] = part.view(channels, *patch)
            out_labels[place] = part_labels.view(patch)
        else:
            image, label_map = part.view(channels, *sample.box), part_labels.view(sample.box)
            warped.append(Warped(image=image, labels=label_map, warp=sample.warp))
            places.append(place)
    if warped:
        chosen = torch.tensor(places, device=images.device)
        moved, moved_labels = warp_samples(warped, patch)
        out.index_copy_(0, chosen, moved)
        out_labels.index_copy_(0, chosen, moved_labels)
    return out, out_labels


def _vary_intensities(images: Tensor, samples: Sequence[Drawn]) -> None:
    """Make the changes of one transform after the other, in place."""
    channels = images.shape[1]
    rows = images.view(-1, *images.shape[2:])
    for of_samples in zip(*(sample.changes for sample in samples), strict=True):
        changes: dict[int, Change] = {}
        for place, of_sample in enumerate(of_samples):
            changes |= {place * channels + change.channel: change for change in of_sample}
        if changes:
            chosen = torch.tensor(list(changes), device=images.device)
            changed = make_changes(rows.index_select(0, chosen), list(changes.values()))
            rows.index_copy_(0, chosen, changed)


def _mirror(images: Tensor, labels: Tensor, samples: Sequence[Drawn]) -> None:
    for axis in range(labels.ndim - 1):
        places = [place for place, sample in enumerate(samples) if axis in sample.flips]
        if places:
            chosen = torch.tensor(places, device=images.device)
            images.index_copy_(0, chosen, images.index_select(0, chosen).flip(axis + 2))
            labels.index_copy_(0, chosen, labels.index_select(0, chosen).flip(axis + 1))
