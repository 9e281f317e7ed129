"""Lesion by lesion: which components of a reference were found, and which were made up."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt

HIT_SHARE = 0.1
"""Share of a component that must lie in the other label map.

A touch by chance is no find, and one blob over everything finds no lesion for free: most of it
lies outside them. The voxels of several components count together, so that lesions that were
joined or split are still found.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionScores:
    """Components of a structure in one case.

    Attributes:
        num_lesions: of the reference.
        num_predicted: of the prediction.
        num_found: of the reference, of which the prediction covers ``HIT_SHARE`` or more.
        num_false: of the prediction, of which the reference covers less than ``HIT_SHARE``.
    """

    num_lesions: int
    num_predicted: int
    num_found: int
    num_false: int

    @property
    def sensitivity(self) -> float | None:
        """Share of the lesions that were found; None if there are none."""
        return self.num_found / self.num_lesions if self.num_lesions else None

    @property
    def f1(self) -> float | None:
        """Found lesions against found, missed and false ones; None if there are none at all."""
        # A lesion found in two parts counts once, so predicted lesions do not enter themselves.
        total = self.num_found + self.num_lesions + self.num_false
        return 2 * self.num_found / total if total else None


def compare_lesions(
    prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]
) -> LesionScores:
    """Match connected components; voxels that share a face, an edge or a corner are connected.

    Args:
        prediction: ``(z, y, x)``, or ``(y, x)``.
        reference: of the same shape.
    """
    found = _covered(reference, prediction)
    right = _covered(prediction, reference)
    return LesionScores(
        num_lesions=len(found),
        num_predicted=len(right),
        num_found=int(found.sum()),
        num_false=int((~right).sum()),
    )


def _covered(mask: npt.NDArray[np.bool_], by: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """For every component of a mask, whether the other covers enough of it."""
    connectivity = 26 if mask.ndim == 3 else 8
    components, count = cc3d.connected_components(mask, connectivity=connectivity, return_N=True)
    if not count:
        return np.zeros(0, dtype=bool)
    sizes = np.bincount(components[mask], minlength=count + 1)[1:]
    shared = np.bincount(components[mask & by], minlength=count + 1)[1:]
    return shared >= HIT_SHARE * sizes
