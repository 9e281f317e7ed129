"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``"1 case"`` or ``"208 cases"``.

    Args:
        number: how many.
        noun: one of them.
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
