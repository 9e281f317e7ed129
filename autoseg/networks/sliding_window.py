"""A whole volume through a network that sees one patch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, combinations, product

import torch
from torch import Tensor, nn

from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.imaging.patches import gaussian_weights, tile_starts
from autoseg.networks.precision import Precision, autocast, place

_Region = tuple[slice, ...]


def predict_logits(
    network: nn.Module,
    image: Tensor,
    patch_size: Sequence[int],
    num_classes: int,
    *,
    mirror_axes: Sequence[int],
    precision: Precision,
    device: torch.device,
    step: float = 0.5,
    tiles_per_batch: int = 1,
    progress: Progress = silent,
) -> Tensor:
    """Compute the logits of a whole volume from overlapping patches.

    Outputs of overlapping patches are averaged with weights that fall off from the patch's
    centre. A volume smaller than the patch is surrounded by zeros. A 2D network sees the volume
    slice by slice. The network moves to the device and stays there; its mode and its
    ``deep_supervision`` are as before when this returns.

    Memory besides the network's own is one float32 buffer of the result's size, one of the
    image's size without channels, and a few patches.

    Args:
        network: takes ``(batch, channels, *patch_size)``, returns ``(batch, num_classes,
            *patch_size)``.
        image: float32 ``(channels, z, y, x)``, prepared as the network expects.
        patch_size: ``(z, y, x)`` or, of a 2D network, ``(y, x)``, in voxels.
        num_classes: number of the network's output channels.
        mirror_axes: axes of the patch; outputs of the patch mirrored along each of their
            combinations are mirrored back and averaged. None if empty.
        precision: what the network computes in; sums are always float32.
        device: where the network computes.
        step: largest distance of neighbouring patches, as a share of the patch.
        tiles_per_batch: number of patches per forward pass.
        progress: told about every batch.

    Returns:
        float32 ``(num_classes, z, y, x)`` on the CPU.

    Raises:
        AutosegError: if the network returns infinity or NaN.
        ValueError: if image or patch have the wrong number of axes.

    References:
        Isensee et al., nnU-Net (2021), whose sliding window this is, except that it sums in
        float16, where the small weights at a volume's border lose their digits.
    """
    dimensions = len(patch_size)
    if image.ndim != 4 or dimensions not in (2, 3):
        raise ValueError(
            f"need a (c, z, y, x) image and 2 or 3 patch sizes, "
            f"got {tuple(image.shape)} and {tuple(patch_size)}"
        )
    window = _Window.over(image.shape[4 - dimensions :], patch_size, step)
    # Made before inference mode begins: an inference tensor could not be changed by the caller.
    logits = torch.zeros(num_classes, *image.shape[1:])
    items, sums = _items(image, dimensions), _items(logits, dimensions)
    tiles = list(product(range(len(items)), window.regions))
    weights = window.weights.to(device)
    layout = precision.memory_format(dimensions)
    place(network, precision, device, dimensions)
    with _evaluating(network), torch.inference_mode(), autocast(precision, device):
        for start in range(0, len(tiles), tiles_per_batch):
            chosen = tiles[start : start + tiles_per_batch]
            batch = torch.stack([items[(item, ..., *region)] for item, region in chosen])
            batch = window.pad(batch.to(device)).contiguous(memory_format=layout)
            outputs = _mean_over_mirrorings(network, batch, num_classes, mirror_axes)
            weighted = (outputs[(..., *window.inside)] * weights).cpu()
            for (item, region), output in zip(chosen, weighted, strict=True):
                sums[(item, ..., *region)].add_(output)
            progress(start + len(chosen), len(tiles))
    sums.div_(window.sum_of_weights())
    return logits


def _items(volume: Tensor, dimensions: int) -> Tensor:
    """View ``(c, z, y, x)`` as what patches are cut from: its slices, or itself alone."""
    return volume.transpose(0, 1) if dimensions == 2 else volume[None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Where patches lie on a grid; along an axis where the grid is smaller, one lies around it.

    Attributes:
        shape: the grid's size per axis.
        patch_size: a patch's size per axis.
        regions: the grid's part of each patch.
        inside: that part's place in the patch.
        weights: of the voxels of that part, float32.
    """

    shape: tuple[int, ...]
    patch_size: tuple[int, ...]
    regions: tuple[_Region, ...]
    inside: _Region
    weights: Tensor

    @classmethod
    def over(cls, shape: Sequence[int], patch_size: Sequence[int], step: float) -> _Window:
        axes = list(zip(shape, patch_size, strict=True))
        margins = [max(patch - size, 0) // 2 for size, patch in axes]
        inside = tuple(
            slice(margin, margin + min(axis)) for margin, axis in zip(margins, axes, strict=True)
        )
        corners = product(*(tile_starts(max(axis), axis[1], step) for axis in axes))
        return cls(
            shape=tuple(shape),
            patch_size=tuple(patch_size),
            regions=tuple(
                tuple(slice(s, s + min(axis)) for s, axis in zip(corner, axes, strict=True))
                for corner in corners
            ),
            inside=inside,
            weights=torch.tensor(gaussian_weights(tuple(patch_size))[inside]),
        )

    def pad(self, batch: Tensor) -> Tensor:
        """Surround the grid's part of patches with zeros, as much below as above."""
        sides = zip(reversed(self.inside), reversed(self.patch_size), strict=True)
        padding = [(part.start, size - part.stop) for part, size in sides]
        return nn.functional.pad(batch, list(chain.from_iterable(padding)))

    def sum_of_weights(self) -> Tensor:
        """Sum of the weights of all patches over each voxel of the grid."""
        total = torch.zeros(self.shape)
        for region in self.regions:
            total[region].add_(self.weights)
        return total


def _mean_over_mirrorings(
    network: nn.Module, batch: Tensor, num_classes: int, mirror_axes: Sequence[int]
) -> Tensor:
    flips = _mirrorings([axis + 2 for axis in mirror_axes])
    total = torch.zeros(len(batch), num_classes, *batch.shape[2:], device=batch.device)
    for flip in flips:
        total += network(batch.flip(flip)).flip(flip)
    # One pass instead of four: infinity and NaN survive a sum.
    if not total.sum().isfinite():
        raise AutosegError(
            "the network's output is not finite",
            remedy="use --precision float32, and check the image for NaN",
        )
    return total / len(flips)


def _mirrorings(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets, beginning with the empty one."""
    sizes = range(len(axes) + 1)
    return list(chain.from_iterable(combinations(axes, size) for size in sizes))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Switch training mode and deep supervision off for a while."""
    training = network.training
    supervised = getattr(network, "deep_supervision", False)
    network.eval()
    _supervise(network, False)
    try:
        yield
    finally:
        network.train(training)
        _supervise(network, supervised)


def _supervise(network: nn.Module, deep: bool) -> None:
    # A network of a plug-in that knows no deep supervision has no such attribute.
    if hasattr(network, "deep_supervision"):
        setattr(network, "deep_supervision", deep)  # noqa: B010 - nn.Module types hide it
