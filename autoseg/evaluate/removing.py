"""What a clean-up does to the Dice, from the parts of a segmentation alone: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cc3d
import numpy as np
import numpy.typing as npt

from autoseg.core.labels import LabelSpace, count_voxels
from autoseg.core.metrics import CaseScores
from autoseg.core.parts import Parts
from autoseg.core.selection import CleanUp
from autoseg.imaging.boxes import bounding_box, crop
from autoseg.imaging.components import without_structure

Indices = npt.NDArray[np.integer]


def parts_of(
    prediction: Indices, reference: Indices, labels: LabelSpace, voxel_ml: float | None
) -> Parts:
    """Take a segmentation apart.

    Args:
        prediction: indices ``0..num_classes - 1``, ``(z, y, x)``.
        reference: indices ``0..num_classes - 1`` or ``ignore_index``, of the same shape.
        labels: what the indices mean.
        voxel_ml: volume of a voxel; None for pictures.
    """
    voxels = np.array(count_voxels(reference, len(labels.values)))
    totals = [int(voxels[list(labels.indices_of(s))].sum()) for s in labels.structures]
    is_one = prediction > 0
    memberships: list[tuple[int, int, int, int]] = []
    indices = joint = np.zeros((0, len(labels.values)), dtype=np.int64)
    if is_one.any():
        box = bounding_box(is_one)
        inside, true = crop(prediction, box), crop(reference, box)
        numbers, components = _components(inside, labels)
        joint, indices = _tables(numbers, inside, true, labels)
        memberships = _memberships(components, indices, joint, labels)
    return Parts(
        indices=tuple(indices.ravel().tolist()),
        voxels=tuple(joint.sum(axis=1).tolist()),
        counted=tuple(joint[:, : labels.num_classes].sum(axis=1).tolist()),
        memberships=tuple(memberships),
        reference=tuple(totals),
        voxel_ml=voxel_ml,
    )


@dataclass(frozen=True, kw_only=True)
class CaseParts:
    """The segmentation of a case, ready to be cleaned up in thought.

    Attributes:
        case: who it is, and what its reference is annotated for; its scores do not matter.
        parts: of its segmentation.
        labels: what is segmented.
    """

    case: CaseScores
    parts: Parts
    labels: LabelSpace

    def dice(self, rules: Sequence[CleanUp], structures: Sequence[int]) -> list[float]:
        """Dice of some structures after a clean-up.

        Where structures overlap, a component that loses a part still counts as one.

        Args:
            rules: what is removed, one rule after the other.
            structures: numbers, in declared order.

        Returns:
            NaN where it is undefined or the case is not annotated.
        """
        indices = self._indices.copy()
        for rule in rules:
            self._remove(rule, indices)
        return [self._score(number, indices) for number in structures]

    def false_volumes_ml(self, structure: int) -> list[float]:
        """Volumes of the components that have nothing of the structure in the reference."""
        name = self.labels.names[structure]
        if self.parts.voxel_ml is None or name in self.case.not_annotated:
            return []
        rows = self._rows[structure]
        sizes = self._sum(rows, self._voxels[rows[:, 0]])
        hits = self._sum(rows, rows[:, 3])
        return (sizes[(sizes > 0) & (hits == 0)] * self.parts.voxel_ml).tolist()

    def _remove(self, rule: CleanUp, indices: npt.NDArray[np.int64]) -> None:
        """Apply a rule to the label indices of the parts."""
        number = self.labels.names.index(rule.structure)
        structure = self.labels.structures[number]
        rows = self._rows[number]
        rows = rows[np.isin(indices[rows[:, 0]], self.labels.indices_of(structure))]
        sizes = self._sum(rows, self._voxels[rows[:, 0]])
        is_removed = np.zeros(len(sizes), dtype=bool)
        if rule.largest_only:
            is_removed |= sizes < sizes.max(initial=0)
        if rule.smallest_ml is not None and self.parts.voxel_ml is not None:
            is_removed |= sizes * self.parts.voxel_ml < rule.smallest_ml
        gone = rows[is_removed[rows[:, 2]], 0]
        indices[gone] = np.array(without_structure(structure, self.labels))[indices[gone]]

    def _score(self, number: int, indices: npt.NDArray[np.int64]) -> float:
        structure = self.labels.structures[number]
        if structure.name in self.case.not_annotated:
            return np.nan
        rows = self._rows[number]
        rows = rows[np.isin(indices[rows[:, 0]], self.labels.indices_of(structure))]
        both = int(rows[:, 3].sum())
        total = int(self._counted[rows[:, 0]].sum()) + self.parts.reference[number]
        return 2 * both / total if total else np.nan

    @staticmethod
    def _sum(rows: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Sum values of parts over the components they are in."""
        return np.bincount(rows[:, 2], values, minlength=1).astype(np.int64)

    @cached_property
    def _rows(self) -> list[npt.NDArray[np.int64]]:
        """Memberships of each structure: part, structure, component, hits."""
        rows = np.array(self.parts.memberships, dtype=np.int64).reshape(-1, 4)
        return [rows[rows[:, 1] == number] for number in range(len(self.labels.structures))]

    @cached_property
    def _indices(self) -> npt.NDArray[np.int64]:
        return np.array(self.parts.indices, dtype=np.int64)

    @cached_property
    def _voxels(self) -> npt.NDArray[np.int64]:
        return np.array(self.parts.voxels, dtype=np.int64)

    @cached_property
    def _counted(self) -> npt.NDArray[np.int64]:
        return np.array(self.parts.counted, dtype=np.int64)


def _components(inside: Indices, labels: LabelSpace) -> tuple[Indices, list[Indices]]:
    """The part of every voxel, 0 for none, and each structure's component of every part."""
    if not labels.has_regions:
        parts = cc3d.connected_components(inside, connectivity=26)
        own = np.arange(int(parts.max()) + 1)
        return parts, [own] * len(labels.structures)
    is_one = inside > 0
    key = inside[is_one].astype(np.int64)
    found: list[Indices] = []
    for structure in labels.structures:
        union = np.isin(inside, labels.indices_of(structure))
        found.append(cc3d.connected_components(union, connectivity=26)[is_one].astype(np.int64))
        # Numbered anew each time, lest the product outgrow an integer.
        _, key = np.unique(key * (found[-1].max() + 1) + found[-1], return_inverse=True)
    _, first, numbers = np.unique(key, return_index=True, return_inverse=True)
    parts = np.zeros(inside.shape, dtype=np.int64)
    parts[is_one] = numbers + 1
    return parts, [np.concatenate([[0], one[first]]) for one in found]


def _tables(
    parts: Indices, inside: Indices, true: Indices, labels: LabelSpace
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Voxels of each part by index of the reference, and its own index."""
    columns, count = len(labels.values), int(parts.max())
    is_one = parts > 0
    flat = parts[is_one].astype(np.int64) - 1
    joint = np.bincount(flat * columns + true[is_one], minlength=count * columns)
    indices = np.zeros(count, dtype=np.int64)
    indices[flat] = inside[is_one]
    return joint.reshape(count, columns), indices


def _memberships(
    components: Sequence[Indices],
    indices: npt.NDArray[np.int64],
    joint: npt.NDArray[np.int64],
    labels: LabelSpace,
) -> list[tuple[int, int, int, int]]:
    rows: list[tuple[int, int, int, int]] = []
    for number, structure in enumerate(labels.structures):
        own = list(labels.indices_of(structure))
        (inside,) = np.nonzero(np.isin(indices, own))
        hits = joint[inside][:, own].sum(axis=1)
        of = components[number][inside + 1]
        rows += [(int(p), number, int(c), int(h)) for p, c, h in zip(inside, of, hits, strict=True)]
    return rows
