"""Which voxel sizes and intensities cannot be."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autoseg.core.geometry import Shape, Triple

LARGEST_VOXEL_MM = 50.0
LARGEST_FIELD_MM = 3000.0
SMALLEST_FIELD_MM = 5.0
SMALLEST_VOXEL_MM = 0.005
"""The limits of the small hold for images of patients only: microscopes see less."""

HIGHEST_HU = 50_000.0
LOWEST_HU = -10_000.0
SMALLEST_HU_RANGE = 100.0

_PATIENT_WORDS = frozenset(
    (
        *("ct", "cbct", "cta", "ncct", "cect", "ldct", "pet", "suv", "fdg", "spect", "xray"),
        *("mr", "mri", "mra", "cine", "dce", "dixon", "flair", "adc", "dwi", "swi", "stir"),
        *("t1", "t1w", "t1c", "t1ce", "t1n", "t1gd", "t2", "t2w", "t2f", "pd", "pdw"),
    )
)
_MICROSCOPE_WORDS = frozenset(("micro", "microct", "nano", "em", "sem", "tem", "ex", "vivo"))


def impossible_spacing(spacing: Triple, shape: Shape, channels: Sequence[str]) -> str | None:
    """What is wrong with the voxel size of an image.

    Args:
        spacing: mm, ``(z, y, x)``; 999 for the only slice of a picture.
        shape: voxels, ``(z, y, x)``.
        channels: names of the channels, which tell images of patients from others.

    Returns:
        The finding; None if it may be so. Pictures and stacks whose pixels have no size (1 mm
        everywhere) may have any extent.
    """
    axes = [axis for axis in range(3) if shape[axis] > 1]
    if not axes or all(spacing[axis] == 1 for axis in axes):
        return None
    sizes = [spacing[axis] for axis in axes]
    fields = [spacing[axis] * shape[axis] for axis in axes]
    size = f"voxels of {spacing[0]:.4g} x {spacing[1]:.4g} x {spacing[2]:.4g} mm"
    if max(sizes) > LARGEST_VOXEL_MM:
        return size
    if max(fields) > LARGEST_FIELD_MM:
        return f"{size}: the image is {max(fields) / 1000:.3g} m long"
    if not _shows_patients(channels):
        return None
    if max(fields) < SMALLEST_FIELD_MM:
        return f"{size}: the whole image is {max(fields):.3g} mm long"
    return size if min(sizes) < SMALLEST_VOXEL_MM else None


def is_ct(channel: str) -> bool:
    """Whether a channel is declared a CT, as normalization understands it."""
    return channel.strip().casefold() == "ct"


def is_no_ct(minimum: float, maximum: float) -> bool:
    """Whether values cannot be HU: without anything below water, or of an odd range.

    Args:
        minimum: lowest value of an image.
        maximum: highest value.
    """
    is_odd = minimum < LOWEST_HU or maximum > HIGHEST_HU
    return minimum >= 0 or is_odd or maximum - minimum < SMALLEST_HU_RANGE


def _shows_patients(channels: Sequence[str]) -> bool:
    words = {word for name in channels for word in re.findall(r"[a-z0-9]+", name.casefold())}
    return bool(words & _PATIENT_WORDS) and not words & _MICROSCOPE_WORDS
