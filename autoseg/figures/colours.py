"""Colours that tell structures apart, on white paper and on grey images."""

from __future__ import annotations

import colorsys

Colour = tuple[float, float, float]

INK = "#1f2933"
"""Text and axes."""

FAINT = "#d5dbe1"
"""Grid lines and frames."""

_FIRST = ("#0f8fce", "#f0602a", "#2ca25f", "#b455d8", "#e8b100", "#e0418c", "#17becf", "#8c6d31")

_GOLDEN_ANGLE = 0.381966

_STRENGTHS = ((0.8, 0.95), (0.95, 0.62), (0.45, 0.78), (0.9, 0.8))


def structure_colours(count: int) -> list[Colour]:
    """One colour per structure; the first ones differ for colour-blind readers too.

    Args:
        count: number of structures.

    Returns:
        Red, green, blue in 0..1; the first colours do not depend on ``count``.
    """
    return [_colour(index) for index in range(count)]


def _colour(index: int) -> Colour:
    if index < len(_FIRST):
        digits = _FIRST[index].lstrip("#")
        red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
        return red, green, blue
    # Steps of the golden angle never come back to a hue; strength and brightness tell near
    # ones apart.
    saturation, value = _STRENGTHS[index % len(_STRENGTHS)]
    return colorsys.hsv_to_rgb((index * _GOLDEN_ANGLE + 0.5) % 1, saturation, value)
