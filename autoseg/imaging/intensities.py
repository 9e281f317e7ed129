"""What the values of an image tell about how it was made."""

from __future__ import annotations

AIR_HU = -900.0
"""A CT holds air, around the patient if nowhere else."""

LOWEST_HU = -4096.0
"""Voxels outside the scanner's field of view are -1024, -2048 or -3024, by maker; from here on,
the lowest value of a 13-bit phase image."""

BONE_HU = 300.0
HIGHEST_HU = 32766.0


def looks_like_hu(minimum: float, maximum: float, is_whole: bool) -> bool:
    """Whether the values of an image can be Hounsfield units, judged by their range.

    Args:
        minimum: lowest value of all voxels.
        maximum: highest value.
        is_whole: whether every value is a whole number.

    Returns:
        True if they are whole, go down to air and up to bone. A CT that was shifted to start at
        0, cropped to soft tissue or scaled does not look like one.
    """
    return is_whole and LOWEST_HU < minimum <= AIR_HU and BONE_HU <= maximum <= HIGHEST_HU
