"""Random variation of training patches: the augmentations there are, and how one is applied.

Intensities go through transforms with the interface of batchgenerators: called with a
dictionary's entries, they return such a dictionary. autoseg's own are faster and draw from the
sample's generator; those of batchgenerators draw from the global random states, which are then
seeded from that generator, so that no sample depends on the one before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.registry import Registry
from autoseg.train.augmentation import warp as warping
from autoseg.train.augmentation.intensity import (
    Blur,
    Brightness,
    Contrast,
    Gamma,
    LowResolution,
    Noise,
    Transform,
)
from autoseg.train.augmentation.local_intensity import (
    BlankRectangles,
    BrightnessGradient,
    LocalGamma,
    Offset,
    Sharpen,
)
from autoseg.train.augmentation.previous_stage import PreviousRange
from autoseg.train.augmentation.warp import Box, Warp, WarpRange

DUMMY_2D_RATIO = 3.0
_USUAL_PREVIOUS = PreviousRange()

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int16]
IntensityTransform = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What may happen to a patch.

    Attributes:
        patch_size: size of the patch, ``(y, x)`` or ``(z, y, x)``.
        warp: rotation, scaling and shift, or None.
        in_plane: whether 3D patches are warped and coarsened within slices only.
        intensity: transforms of the intensities, in order: those of ``train.intensity``, of
            batchgenerators, or others that are called in the same way.
        mirror_axes: spatial axes that are mirrored, each with probability 0.5. Prediction
            averages over the mirrorings of these axes, too.
        previous_stage: what may happen to the prediction a cascade reads, or None.
    """

    patch_size: tuple[int, ...]
    warp: WarpRange | None = None
    in_plane: bool = False
    intensity: Sequence[IntensityTransform] = field(default=(), repr=False)
    mirror_axes: tuple[int, ...] = ()
    previous_stage: PreviousRange | None = _USUAL_PREVIOUS


AUGMENTATIONS: Registry[Callable[[Sequence[int], Sequence[int]], Augmentation]] = Registry(
    "augmentation"
)


def default_augmentation(patch_size: Sequence[int], mirror_axes: Sequence[int]) -> Augmentation:
    """Rotation, scaling, noise, blur, brightness, contrast, low resolution, gamma, mirroring.

    Args:
        patch_size: size of the patches, ``(y, x)`` or ``(z, y, x)``.
        mirror_axes: spatial axes that may be mirrored.

    References:
        Isensee et al. 2021, nnU-Net, supplementary note 4; probabilities and ranges as in its
        second version.
    """
    in_plane = is_dummy_2d(patch_size)
    gamma = (0.7, 1.5)
    return Augmentation(
        patch_size=tuple(patch_size),
        warp=WarpRange(
            rotation_degrees=rotation_degrees(patch_size),
            rotation_share=0.2,
            scale_range=(0.7, 1.4),
            scale_share=0.2,
        ),
        in_plane=in_plane,
        intensity=(
            Noise(share=0.1, deviation_range=(0.0, 0.1)),
            Blur(share=0.2, sigma_range=(0.5, 1.0)),
            Brightness(share=0.15, factor_range=(0.75, 1.25)),
            Contrast(share=0.15, factor_range=(0.75, 1.25)),
            LowResolution(share=0.25, factor_range=(0.5, 1.0), in_plane=in_plane),
            Gamma(share=0.1, exponent_range=gamma, inverted=True),
            Gamma(share=0.3, exponent_range=gamma, inverted=False),
        ),
        mirror_axes=tuple(mirror_axes),
    )


def default_without_mirroring(
    patch_size: Sequence[int], mirror_axes: Sequence[int]
) -> Augmentation:
    """The default without mirroring, in training and so in prediction.

    Args:
        patch_size: size of the patches.
        mirror_axes: ignored: nothing is mirrored.
    """
    del mirror_axes
    return default_augmentation(patch_size, ())


def no_augmentation(patch_size: Sequence[int], mirror_axes: Sequence[int]) -> Augmentation:
    """Leave patches as they are.

    Args:
        patch_size: size of the patches.
        mirror_axes: ignored: nothing is mirrored.
    """
    del mirror_axes
    return Augmentation(patch_size=tuple(patch_size), previous_stage=None)


def light_augmentation(patch_size: Sequence[int], mirror_axes: Sequence[int]) -> Augmentation:
    """What classic pipelines do: turn, zoom and shift every sample a little, flip it sideways.

    Up to 5 degrees about each axis, 5 % zoom and 10 voxels of shift along each axis (a quarter
    of the patch if that is less). The flip is along the last axis, if that may be mirrored.

    Args:
        patch_size: size of the patches, ``(y, x)`` or ``(z, y, x)``.
        mirror_axes: spatial axes that may be mirrored.
    """
    last = len(patch_size) - 1
    return Augmentation(
        patch_size=tuple(patch_size),
        warp=WarpRange(
            rotation_degrees=5.0,
            rotation_share=1.0,
            scale_range=(0.95, 1.05),
            scale_share=1.0,
            shift_vox=tuple(min(10, length // 4) for length in patch_size),
        ),
        in_plane=is_dummy_2d(patch_size),
        mirror_axes=(last,) if last in mirror_axes else (),
    )


def strong_augmentation(patch_size: Sequence[int], mirror_axes: Sequence[int]) -> Augmentation:
    """More often, wider and more kinds than the default, for few cases or mixed scanners.

    Args:
        patch_size: size of the patches, ``(y, x)`` or ``(z, y, x)``.
        mirror_axes: spatial axes that may be mirrored.

    References:
        Shares and ranges follow the "DA5" variant of nnU-Net. Left out are turns by 90 degrees
        and exchanges of axes, which show anatomy no scanner does, and the median filter, which
        is slow and does what the blur does. Gamma is taken of the image and of its negative,
        where the variant takes both of the negative.
    """
    in_plane = is_dummy_2d(patch_size)
    gamma = (0.7, 1.5)
    return Augmentation(
        patch_size=tuple(patch_size),
        warp=WarpRange(
            rotation_degrees=rotation_degrees(patch_size),
            rotation_share=0.4,
            axis_share=0.5,
            scale_range=(0.7, 1.43),
            scale_share=0.2,
            is_isotropic=False,
        ),
        in_plane=in_plane,
        intensity=(
            Blur(share=0.2, sigma_range=(0.3, 1.5)),
            Noise(share=0.1, deviation_range=(0.0, 0.1)),
            Offset(share=0.1, deviation=0.5),
            Contrast(share=0.3, factor_range=(0.5, 2.0), channel_share=0.5, clipped_share=0.5),
            LowResolution(share=0.15, factor_range=(0.25, 1.0), in_plane=in_plane),
            Gamma(share=0.1, exponent_range=gamma, inverted=True),
            Gamma(share=0.1, exponent_range=gamma, inverted=False),
            BlankRectangles(share=0.4),
            BrightnessGradient(share=0.3, strength_range=(1.0, 5.0)),
            LocalGamma(share=0.3, low_range=(0.01, 0.8), high_range=(1.5, 4.0)),
            Sharpen(share=0.2, strength_range=(0.1, 1.0), in_plane=in_plane),
        ),
        mirror_axes=tuple(mirror_axes),
    )


AUGMENTATIONS.add("default", default_augmentation)
AUGMENTATIONS.add("none", no_augmentation)
AUGMENTATIONS.add("no-mirror", default_without_mirroring)
AUGMENTATIONS.add("light", light_augmentation)
AUGMENTATIONS.add("strong", strong_augmentation)


def is_dummy_2d(patch_size: Sequence[int]) -> bool:
    """Whether a 3D patch is so flat that its slices are warped like 2D images."""
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > DUMMY_2D_RATIO


def rotation_degrees(patch_size: Sequence[int]) -> float:
    """Largest angle about each axis: what the patch's proportions bear."""
    if len(patch_size) == 3:
        return 180.0 if is_dummy_2d(patch_size) else 30.0
    return 15.0 if max(patch_size) / min(patch_size) > 1.5 else 180.0


def draw_warp(augmentation: Augmentation, rng: np.random.Generator) -> Warp | None:
    """Draw rotation, scaling and shift, each with its probability.

    Args:
        augmentation: what may happen.
        rng: source of randomness.

    Returns:
        None if none was drawn: then the plain patch is all that must be read.
    """
    if augmentation.warp is None:
        return None
    dimensions = 2 if augmentation.in_plane else len(augmentation.patch_size)
    return warping.draw_warp(augmentation.warp, dimensions, rng)


def box_to_read(augmentation: Augmentation, warp: Warp | None) -> Box:
    """What must be read for a sample, relative to the patch.

    Args:
        augmentation: what may happen.
        warp: what ``draw_warp`` gave.
    """
    if warp is None:
        patch = augmentation.patch_size
        return Box(lower=(0,) * len(patch), size=patch)
    return warping.source_box(warp, augmentation.patch_size)


def apply(
    image: Array,
    labels: Labels,
    warp: Warp | None,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Array, Labels]:
    """Vary one patch.

    Args:
        image: ``(channels, *size)``, of the size that ``box_to_read`` tells; may be changed.
        labels: ``size``, -1 outside the image; or several such maps, ``(maps, *size)``.
        warp: what ``draw_warp`` gave.
        augmentation: what may happen.
        rng: source of the remaining randomness.

    Returns:
        Image ``(channels, *patch_size)`` and labels ``patch_size``, of several maps ``(maps,
        *patch_size)``; views where mirrored.
    """
    if warp is not None:
        image, labels = warping.warp_patch(image, labels, warp, augmentation.patch_size)
    batch: dict[str, Any] = {"data": np.ascontiguousarray(image)[None], "rng": rng}
    for transform in augmentation.intensity:
        if not isinstance(transform, Transform):
            _seed_globals(rng)
        batch = transform(**batch)
    image, flips = batch["data"][0].astype(np.float32, copy=False), draw_flips(augmentation, rng)
    # Counted from the last one, because channels or several label maps come first.
    axes = tuple(axis - len(augmentation.patch_size) for axis in flips)
    return np.flip(image, axes), np.flip(labels, axes)


def draw_flips(augmentation: Augmentation, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw the spatial axes along which a sample is mirrored: the last draw of every sample."""
    flips = rng.random(len(augmentation.mirror_axes)) < 0.5
    return tuple(a for a, flip in zip(augmentation.mirror_axes, flips, strict=True) if flip)


def _seed_globals(rng: np.random.Generator) -> None:
    """Make draws from the global states a function of the sample alone."""
    seed = int(rng.integers(2**32))
    np.random.seed(seed)  # noqa: NPY002 - the state batchgenerators draws from
    random.seed(seed)
