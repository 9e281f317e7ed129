"""Axes that may be mirrored: those along which no two alike structures keep their order.

A network that sees every image mirrored as well as not cannot know on which side of the other
one of two structures lies. That does no harm where they look different, and none where they
lie either way round in the data. It ruins the difference between a left and a right kidney.

An axis is forbidden by two structures if all of this holds:

- Their order along it is the same in ``SAME_ORDER`` of the cases that have both.
- That is no accident: ``MANY_CASES`` cases would agree by chance in fewer than 1 of 100 data
  sets. With fewer, but at least ``FEW_CASES``, they must lie ``STEADY_STDS`` standard deviations
  of their distance apart. An order that was seen less often does not count, because with few
  cases mirroring is worth most.
- They lie apart: by ``MIN_VOXELS``, and by ``MIN_RADII`` of the sum of the radii of balls of
  their volumes. Balls that touch are 1 apart, 0.7 along each of two axes if obliquely. A
  structure that lies inside another one, like a tumour in a kidney, is rarely that far off its
  middle, and if so not always towards the same side.
- They look alike: in no channel do their mean intensities differ by ``ALIKE_STDS`` standard
  deviations. Beyond that most of their voxels can be told apart by intensity alone.

Two structures that are left and right by name forbid the axis from left to right unless the
cases show otherwise: there ``NAMED_ORDER`` of the cases are enough, and none have to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from autoseg.core.fingerprint import CaseFingerprint, Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.sides import side_pairs

SAME_ORDER = 0.97
MANY_CASES = 8
FEW_CASES = 3
STEADY_STDS = 5.0
MIN_VOXELS = 2.0
MIN_RADII = 1 / 3
ALIKE_STDS = 1.0
NAMED_ORDER = 0.75
LEFT_RIGHT = 2
"""The anatomical axis from right to left; 0 is that of height, 1 that of depth."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_ANATOMICAL = {"S": 0, "I": 0, "P": 1, "A": 1, "L": LEFT_RIGHT, "R": LEFT_RIGHT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How two structures lie along an anatomical axis.

    Attributes:
        structures: their names.
        num_cases: cases that have both.
        num_same: cases in which they lie in the more frequent order.
        distance_mm: median distance of their centroids along the axis.
        contrast_stds: by how many pooled standard deviations their mean intensities differ, in
            the channel where they differ most; the median of the cases.
        by_name: whether their names say that they are left and right.
    """

    structures: tuple[str, str]
    num_cases: int
    num_same: int
    distance_mm: float
    contrast_stds: float
    by_name: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorVerdict:
    """Whether an axis of the images may be mirrored.

    Attributes:
        axis: 0 (z), 1 (y) or 2 (x) of the raw images.
        against: what forbids it, the plainest first; empty if nothing does.
        is_measured: whether any case tells where its structures lie.
    """

    axis: int
    against: tuple[Order, ...] = ()
    is_measured: bool = True

    @property
    def is_allowed(self) -> bool:
        """Whether nothing forbids it."""
        return not self.against


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Structures of all cases; NaN where a case has none of one.

    Attributes:
        names: of each structure.
        centroids: mm, ``(cases, structures, 3)``.
        radii: of balls of the same volumes, mm, ``(cases, structures)``.
        means: ``(cases, structures, channels)``.
        stds: ``(cases, structures, channels)``.
        voxels: size of a voxel along each anatomical axis, mm, ``(cases, 3)``.
    """

    names: tuple[str, ...]
    centroids: Floats
    radii: Floats
    means: Floats
    stds: Floats
    voxels: Floats


def mirror_verdicts(fingerprint: Fingerprint, labels: LabelSpace) -> tuple[MirrorVerdict, ...]:
    """Find out which axes of the images may be mirrored.

    Label values count, not the regions that are made of them; the ignore label does not.

    Args:
        fingerprint: where the structures of each case lie and what they look like.
        labels: their names.

    Returns:
        One verdict for each of the axes z, y, x of the raw images. Where cases are oriented
        differently, an axis is forbidden if any anatomical axis that it takes is. Cases of
        which structures or orientation are unknown forbid none.
    """
    is_measured = any(case.structures for case in fingerprint.cases)
    measured = _collect(fingerprint, labels)
    against = _orders_against(measured, labels)
    return tuple(
        MirrorVerdict(
            axis=axis,
            against=tuple(
                order
                for anatomical in _taken_by(axis, fingerprint.cases)
                for order in against[anatomical]
            ),
            is_measured=is_measured,
        )
        for axis in range(3)
    )


def _taken_by(axis: int, cases: Sequence[CaseFingerprint]) -> list[int]:
    """The anatomical axes that an axis of the images follows in some case."""
    return sorted({_ANATOMICAL[case.orientation[axis]] for case in cases if case.orientation})


def _collect(fingerprint: Fingerprint, labels: LabelSpace) -> _Measured:
    cases = fingerprint.cases
    names = _names_of_indices(labels)
    shape = (len(cases), len(names))
    num_channels = len(fingerprint.intensities)
    centroids = np.full((*shape, 3), np.nan)
    means = np.full((*shape, num_channels), np.nan)
    stds = np.full((*shape, num_channels), np.nan)
    volumes = np.full(shape, np.nan)
    for row, case in enumerate(cases):
        for column, found in enumerate(case.structures):
            if found is not None:
                centroids[row, column] = found.centroid
                means[row, column], stds[row, column] = found.means, found.stds
                volumes[row, column] = case.label_voxels[column] * np.prod(case.spacing)
    return _Measured(
        names=names,
        centroids=centroids,
        radii=np.cbrt(volumes * 3 / (4 * np.pi)),
        means=means,
        stds=stds,
        voxels=np.array([_voxel_mm(case) for case in cases]),
    )


def _names_of_indices(labels: LabelSpace) -> tuple[str, ...]:
    """What users call each index 1..n: the structure of that value alone, or the value."""
    alone = {s.values[0]: s.name for s in labels.structures if len(s.values) == 1}
    return tuple(alone.get(value, f"label {value}") for value in labels.foreground_values)


def _voxel_mm(case: CaseFingerprint) -> list[float]:
    """Voxel size along each anatomical axis; the largest where no image axis follows it."""
    along = {
        _ANATOMICAL[letter]: case.spacing[axis] for axis, letter in enumerate(case.orientation)
    }
    return [along.get(anatomical, max(case.spacing)) for anatomical in range(3)]


def _orders_against(measured: _Measured, labels: LabelSpace) -> list[list[Order]]:
    """What forbids each anatomical axis, the plainest first."""
    against: list[list[Order]] = [[], [], []]
    sided = _sided_columns(labels)
    for pair in combinations(range(len(measured.names)), 2):
        has_both = np.isfinite(measured.radii[:, pair[0]] + measured.radii[:, pair[1]])
        for anatomical in range(3):
            names = sided.get(pair) if anatomical == LEFT_RIGHT else None
            order = _order(measured, pair, has_both, anatomical, names)
            if order is not None:
                against[anatomical].append(order)
    return [sorted(orders, key=_plainness) for orders in against]


def _plainness(order: Order) -> tuple[bool, int, float]:
    return not order.by_name, -order.num_same, order.contrast_stds


def _sided_columns(labels: LabelSpace) -> dict[tuple[int, int], tuple[str, str]]:
    """Columns of the structures that are left and right by name, with their names."""
    column = {s.name: labels.indices_of(s)[0] - 1 for s in labels.structures}
    pairs = {(column[left], column[right]): (left, right) for left, right in side_pairs(column)}
    return {(min(pair), max(pair)): names for pair, names in pairs.items()}


def _order(
    measured: _Measured,
    pair: tuple[int, int],
    has_both: Bools,
    anatomical: int,
    sided: tuple[str, str] | None,
) -> Order | None:
    """How two structures lie along an axis if they forbid it, else None."""
    if not has_both.any() and sided is None:
        return None
    first, second = pair
    along = measured.centroids[:, :, anatomical]
    distances = along[has_both, first] - along[has_both, second]
    num_same = max(int((distances > 0).sum()), int((distances < 0).sum()))
    if sided is not None and num_same >= NAMED_ORDER * len(distances):
        names, by_name = sided, True
    elif _is_no_accident(distances, num_same):
        names, by_name = (measured.names[first], measured.names[second]), False
    else:
        return None
    order = Order(
        structures=names,
        num_cases=len(distances),
        num_same=num_same,
        distance_mm=float(np.median(np.abs(distances))) if len(distances) else 0.0,
        contrast_stds=_contrast(measured, pair, has_both) if len(distances) else 0.0,
        by_name=by_name,
    )
    if by_name or _would_be_confused(order, measured, pair, has_both, anatomical):
        return order
    return None


def _is_no_accident(distances: Floats, num_same: int) -> bool:
    """Whether an order that was seen in some cases may be taken for a rule."""
    if num_same < SAME_ORDER * len(distances) or len(distances) < FEW_CASES:
        return False
    steady = abs(distances.mean()) >= STEADY_STDS * distances.std(ddof=1)
    return len(distances) >= MANY_CASES or bool(steady)


def _would_be_confused(
    order: Order, measured: _Measured, pair: tuple[int, int], has_both: Bools, anatomical: int
) -> bool:
    """Whether two structures look alike and lie apart."""
    if order.contrast_stds >= ALIKE_STDS:
        return False
    first, second = pair
    radii_mm = measured.radii[has_both, first] + measured.radii[has_both, second]
    voxels_mm = measured.voxels[has_both, anatomical]
    apart_mm = max(MIN_VOXELS * np.median(voxels_mm), MIN_RADII * np.median(radii_mm))
    return bool(order.distance_mm >= apart_mm)


def _contrast(measured: _Measured, pair: tuple[int, int], has_both: Bools) -> float:
    """By how many standard deviations two structures differ in their plainest channel.

    A difference counts with its sign: what is brighter in one case and darker in the next
    tells nothing apart.
    """
    first, second = pair
    differences = measured.means[has_both, first] - measured.means[has_both, second]
    stds = measured.stds[has_both, first], measured.stds[has_both, second]
    pooled = np.hypot(*stds) / np.sqrt(2)
    in_stds = np.divide(
        differences,
        pooled,
        out=np.where(differences == 0, 0.0, np.copysign(np.inf, differences)),
        where=pooled > 0,
    )
    return float(np.abs(np.median(in_stds, axis=0)).max())
