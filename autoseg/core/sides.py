"""Left and right in the names of structures."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LEFT = {
    *("left", "l", "lt", "lft", "lh", "links", "linke", "linker", "linkes", "gauche"),
    *("sinister", "sinistra", "sinistrum", "sinistro", "sin", "sx"),
    *("izquierdo", "izquierda", "esquerdo", "esquerda"),
}
_RIGHT = {
    *("right", "r", "rt", "rgt", "rh", "rechts", "rechte", "rechter", "rechtes", "droit", "droite"),
    *("dexter", "dextra", "dextrum", "destra", "destro", "dex", "dx"),
    *("derecho", "derecha", "direito", "direita"),
}
_WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])|\d+")


def side_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names that differ only in telling left from right.

    Args:
        names: of structures, such as ``kidney_left``, ``Right Kidney``, ``lung_upper_lobe_L``,
            ``RightVentricle``.

    Returns:
        The left and the right name of each pair, sorted.
    """
    left: dict[tuple[str, ...], str] = {}
    right: dict[tuple[str, ...], str] = {}
    for name in names:
        words = tuple(word.casefold() for word in _WORD.findall(name))
        for place, word in enumerate(words):
            sides = left if word in _LEFT else right if word in _RIGHT else None
            if sides is not None:
                sides[tuple(sorted((*words[:place], *words[place + 1 :])))] = name
    return sorted((left[what], right[what]) for what in left.keys() & right.keys())
