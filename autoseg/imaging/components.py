"""Connected components: clean-up and counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import cc3d
import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Triple
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.selection import CleanUp
from autoseg.imaging.boxes import bounding_box, crop
from autoseg.imaging.decide import Labels


def keep_largest(
    labels: npt.NDArray[np.integer], indices: Sequence[int]
) -> npt.NDArray[np.integer]:
    """Keep the largest connected component of what some labels cover together.

    Voxels are neighbours when they share a face, an edge or a corner. Components of equal,
    largest size are all kept.

    Args:
        labels: integer ``(z, y, x)``, not changed.
        indices: labels whose union is looked at; all others stay.

    Returns:
        A new array in which the smaller components are 0.
    """
    result = labels.copy()
    union = np.isin(labels, indices)
    box = bounding_box(union)
    components = cc3d.connected_components(crop(union, box), connectivity=26)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    is_small = sizes < sizes.max()
    is_small[0] = False
    crop(result, box)[is_small[components]] = 0
    return result


def count_components(labels: npt.NDArray[np.integer], count: int) -> tuple[int, ...]:
    """Number of connected components of each label.

    Voxels are neighbours when they share a face, an edge or a corner.

    Args:
        labels: integer ``(z, y, x)``.
        count: labels 1..count are looked at; all others are background.

    Returns:
        One number for each of them; 0 for a label that is absent.
    """
    is_one = (labels > 0) & (labels <= count)
    if not is_one.any():
        return (0,) * count
    box = bounding_box(is_one)
    inside = np.where(crop(is_one, box), crop(labels, box), 0)
    components, total = cc3d.connected_components(inside, connectivity=26, return_N=True)
    label_of = np.zeros(total + 1, labels.dtype)
    label_of[components] = inside
    return tuple(np.bincount(label_of[1:], minlength=count + 1)[1:].tolist())


def clean_up(
    indices: Labels,
    rules: Sequence[CleanUp],
    labels: LabelSpace,
    spacing: Triple,
) -> Labels:
    """Remove what is unlikely to belong to a structure: all but the largest part, or small ones.

    Voxels are neighbours when they share a face, an edge or a corner. What is removed of a
    structure stays part of the larger structures around it: of a tumour's core, the tumour.

    Args:
        indices: label indices ``(z, y, x)``, not changed.
        rules: what is removed of which structures, one rule after the other.
        labels: what the indices mean.
        spacing: mm, ``(z, y, x)``.

    Returns:
        A new array of the same type.

    Raises:
        ValueError: if there is no structure of a rule's name.
    """
    result = indices.copy()
    for rule in rules:
        structure = next((s for s in labels.structures if s.name == rule.structure), None)
        if structure is None:
            raise ValueError(f"no structure named '{rule.structure}'")
        _clean(result, rule, structure, labels, prod(spacing) / 1000)
    return result


def _clean(
    indices: Labels,
    rule: CleanUp,
    structure: Structure,
    labels: LabelSpace,
    voxel_ml: float,
) -> None:
    """Apply a rule, in place."""
    union = np.isin(indices, labels.indices_of(structure))
    box = bounding_box(union)
    components = cc3d.connected_components(crop(union, box), connectivity=26)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    is_removed = np.zeros(len(sizes), dtype=bool)
    if rule.largest_only:
        is_removed |= sizes < sizes.max()
    if rule.smallest_ml is not None:
        is_removed |= sizes * voxel_ml < rule.smallest_ml
    is_removed[0] = False
    without = np.array(without_structure(structure, labels), dtype=indices.dtype)
    inside = crop(indices, box)
    removed = is_removed[components]
    inside[removed] = without[inside[removed]]


def without_structure(structure: Structure, labels: LabelSpace) -> list[int]:
    """By index, the one of a voxel that is all the same but not part of a structure."""
    gone = {s.name for s in labels.structures if set(s.values) <= set(structure.values)}
    parts = [
        frozenset(s.name for s in labels.structures if value in s.values)
        for value in (labels.background, *labels.foreground_values)
    ]
    return [parts.index(part - gone) if part - gone in parts else 0 for part in parts]
