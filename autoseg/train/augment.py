"""Random variation of training patches, through the transforms of batchgenerators.

batchgenerators works on dictionaries and draws from global random states; both end here. Every
sample seeds those states from its own generator, so a sample does not depend on the one before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import radians
from typing import Any

import numpy as np
import numpy.typing as npt
from batchgenerators.augmentations.spatial_transformations import augment_spatial
from batchgenerators.transforms.abstract_transforms import AbstractTransform
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import (
    GaussianBlurTransform,
    GaussianNoiseTransform,
)
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform

from autoseg.registry import Registry

DUMMY_2D_RATIO = 3.0
PROBABILITY_ROTATION = 0.2
PROBABILITY_SCALING = 0.2
SCALE_RANGE = (0.7, 1.4)
SMALLEST_SCALE_READ = 0.85

_BLUR = {"blur_sigma": (0.5, 1.0), "different_sigma_per_axis": True, "p_per_channel": 0.5}
_LOW_RESOLUTION = {
    "zoom_range": (0.5, 1),
    "per_channel": True,
    "p_per_channel": 0.5,
    "order_downsample": 0,
    "order_upsample": 1,
}
_GAMMA = {"gamma_range": (0.7, 1.5), "per_channel": True, "retain_stats": True}

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What may happen to a patch.

    Attributes:
        patch_size: size of the result, ``(y, x)`` or ``(z, y, x)``.
        rotation_degrees: largest angle about each axis; 0 for no rotation.
        scale_range: range of the factor coordinates are multiplied with, or None.
        in_plane: whether 3D patches are rotated, scaled and coarsened within slices only.
        mirror_axes: spatial axes that may be mirrored.
        intensity: batchgenerators transforms of the intensities, in order.
        read_size: size to read when the patch is rotated or scaled.
    """

    patch_size: tuple[int, ...]
    rotation_degrees: float
    scale_range: tuple[float, float] | None
    in_plane: bool
    mirror_axes: tuple[int, ...]
    intensity: Sequence[AbstractTransform] = field(repr=False)
    read_size: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """A drawn rotation and scaling.

    Attributes:
        angles: radians about each axis; a single one within the plane.
        scale: coordinates are multiplied with it; above 1 objects shrink.
    """

    angles: tuple[float, ...]
    scale: float


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
    patch = tuple(patch_size)
    in_plane = len(patch) == 3 and max(patch) / patch[0] > DUMMY_2D_RATIO
    degrees = _rotation_degrees(patch, in_plane)
    return Augmentation(
        patch_size=patch,
        rotation_degrees=degrees,
        scale_range=SCALE_RANGE,
        in_plane=in_plane,
        mirror_axes=tuple(mirror_axes),
        intensity=_intensity_transforms(ignored_axes=(0,) if in_plane else None),
        read_size=enlarged_size(patch, degrees, in_plane),
    )


def no_augmentation(patch_size: Sequence[int], mirror_axes: Sequence[int]) -> Augmentation:
    """Leave patches as they are.

    Args:
        patch_size: size of the patches.
        mirror_axes: ignored: nothing is mirrored.
    """
    del mirror_axes
    patch = tuple(patch_size)
    return Augmentation(
        patch_size=patch,
        rotation_degrees=0.0,
        scale_range=None,
        in_plane=False,
        mirror_axes=(),
        intensity=(),
        read_size=patch,
    )


AUGMENTATIONS.add("default", default_augmentation)
AUGMENTATIONS.add("none", no_augmentation)


def draw_warp(augmentation: Augmentation, rng: np.random.Generator) -> Warp | None:
    """Draw rotation and scaling, each with its probability.

    Args:
        augmentation: what may happen.
        rng: source of randomness; the same number of draws whatever the outcome.

    Returns:
        None if neither was drawn: then the plain patch is all that must be read.
    """
    limit = radians(augmentation.rotation_degrees)
    num_angles = 3 if len(augmentation.patch_size) == 3 and not augmentation.in_plane else 1
    rotate, rescale, enlarge = rng.random(3)
    angles = tuple(rng.uniform(-limit, limit, num_angles).tolist())
    factor = rng.random()
    rotates = augmentation.rotation_degrees > 0 and rotate < PROBABILITY_ROTATION
    scales = augmentation.scale_range is not None and rescale < PROBABILITY_SCALING
    if not rotates and not scales:
        return None
    return Warp(
        angles=angles if rotates else (0.0,) * num_angles,
        scale=_scale(augmentation.scale_range, enlarge, factor) if scales else 1.0,
    )


def apply(
    image: Array,
    labels: Labels,
    warp: Warp | None,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Array, Labels]:
    """Vary one patch.

    Args:
        image: ``(channels, *size)``, of ``read_size`` with a warp, else of ``patch_size``.
        labels: ``size``, -1 outside the image.
        warp: what ``draw_warp`` gave.
        augmentation: what may happen.
        rng: source of the remaining randomness.

    Returns:
        Image ``(channels, *patch_size)`` and labels ``patch_size``.
    """
    if warp is not None:
        image, labels = warp_patch(image, labels, warp, augmentation)
    _seed_globals(rng)
    batch: dict[str, Array] = {"data": image[None].copy()}
    for transform in augmentation.intensity:
        batch = transform(**batch)
    return _mirror(batch["data"][0].astype(np.float32, copy=False), labels, augmentation, rng)


def warp_patch(
    image: Array, labels: Labels, warp: Warp, augmentation: Augmentation
) -> tuple[Array, Labels]:
    """Rotate and scale about the centre: images linearly, labels by the most likely label.

    Args:
        image: ``(channels, *read_size)``; 0 is assumed outside.
        labels: ``read_size``; -1 is assumed outside.
        warp: the drawn rotation and scaling.
        augmentation: patch size, and whether only within slices.

    Returns:
        Image ``(channels, *patch_size)`` and labels ``patch_size``.
    """
    patch = augmentation.patch_size
    size = patch[1:] if augmentation.in_plane else patch
    data = image.reshape(1, -1, *image.shape[-len(size) :])
    seg = labels.reshape(1, -1, *labels.shape[-len(size) :])
    angles = (*warp.angles, 0.0, 0.0)[:3]
    warped, warped_seg = augment_spatial(
        data,
        seg,
        size,
        do_elastic_deform=False,
        do_rotation=any(angles),
        angle_x=(angles[0], angles[0]),
        angle_y=(angles[1], angles[1]),
        angle_z=(angles[2], angles[2]),
        do_scale=warp.scale != 1.0,
        scale=(warp.scale, warp.scale),
        border_mode_data="constant",
        border_cval_data=0,
        order_data=1,
        border_mode_seg="constant",
        border_cval_seg=-1,
        order_seg=1,
        random_crop=False,
    )
    assert warped_seg is not None
    return (
        warped.reshape(image.shape[0], *patch).astype(np.float32, copy=False),
        np.rint(warped_seg).astype(np.int16).reshape(patch),
    )


def enlarged_size(
    patch_size: Sequence[int], rotation_degrees: float, in_plane: bool
) -> tuple[int, ...]:
    """Size to read so that a rotated and shrunk patch is mostly filled.

    Args:
        patch_size: voxels of the final patch.
        rotation_degrees: largest angle about each axis.
        in_plane: whether the first axis of three takes no part.

    Returns:
        Voxels per axis, at least the patch.

    References:
        The rule of the reference planner's training: the extent of the patch's corner rotated
        about one axis at a time, divided by 0.85.
    """
    limit = radians(min(rotation_degrees, 90.0))
    corner = np.asarray(patch_size, dtype=np.float64)
    extent = corner.copy()
    for rotation in _axis_rotations(len(corner), limit):
        extent = np.maximum(extent, np.abs(corner @ rotation))
    size = [int(length) for length in extent / SMALLEST_SCALE_READ]
    if in_plane:
        size[0] = patch_size[0]
    return tuple(size)


def _axis_rotations(dimensions: int, angle: float) -> list[npt.NDArray[np.float64]]:
    cos, sin = np.cos(angle), np.sin(angle)
    if dimensions == 2:
        return [np.array([[cos, -sin], [sin, cos]])]
    return [
        np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]),
        np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]),
        np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]),
    ]


def _rotation_degrees(patch: tuple[int, ...], in_plane: bool) -> float:
    if in_plane:
        return 180.0
    if len(patch) == 3:
        return 30.0
    return 15.0 if max(patch) / min(patch) > 1.5 else 180.0


def _intensity_transforms(ignored_axes: tuple[int, ...] | None) -> tuple[AbstractTransform, ...]:
    table: list[tuple[Callable[..., AbstractTransform], float, dict[str, Any]]] = [
        (GaussianNoiseTransform, 0.1, {"noise_variance": (0, 0.1)}),
        (GaussianBlurTransform, 0.2, _BLUR),
        (BrightnessMultiplicativeTransform, 0.15, {"multiplier_range": (0.75, 1.25)}),
        (ContrastAugmentationTransform, 0.15, {"contrast_range": (0.75, 1.25)}),
        (
            SimulateLowResolutionTransform,
            0.25,
            _LOW_RESOLUTION | {"ignore_axes": ignored_axes},
        ),
        (GammaTransform, 0.1, _GAMMA | {"invert_image": True}),
        (GammaTransform, 0.3, _GAMMA | {"invert_image": False}),
    ]
    return tuple(kind(p_per_sample=share, **options) for kind, share, options in table)


def _scale(scale_range: tuple[float, float] | None, side: float, factor: float) -> float:
    """Below 1 and above 1 are equally likely, and uniform on their side."""
    assert scale_range is not None
    low, high = scale_range
    return low + factor * (1 - low) if side < 0.5 else 1 + factor * (high - 1)


def _mirror(
    image: Array, labels: Labels, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[Array, Labels]:
    flips = rng.random(len(augmentation.mirror_axes)) < 0.5
    axes = tuple(a for a, flip in zip(augmentation.mirror_axes, flips, strict=True) if flip)
    image = np.flip(image, tuple(axis + 1 for axis in axes))
    return np.ascontiguousarray(image), np.ascontiguousarray(np.flip(labels, axes))


def _seed_globals(rng: np.random.Generator) -> None:
    """Make batchgenerators' draws a function of the sample alone."""
    seed = int(rng.integers(2**32))
    np.random.seed(seed)  # noqa: NPY002 - the state batchgenerators draws from
    random.seed(seed)
