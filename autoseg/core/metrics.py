"""Scores of segmentations against references."""

from __future__ import annotations

from statistics import fmean

from autoseg.core.artifact import Artifact, Frozen


class Scores(Frozen):
    """One structure of one case.

    Voxel counts compare prediction and reference; scores are None where they are undefined
    (the structure is absent from both), never NaN and never a silent 0.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    dice: float | None
    iou: float | None


class CaseScores(Frozen):
    """The structures of one case, by structure name.

    Attributes:
        name: of the case.
        structures: scores of the structures its reference is annotated for.
        not_annotated: names of the others, of which nobody knows where they are.
    """

    name: str
    structures: dict[str, Scores]
    not_annotated: tuple[str, ...] = ()

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the structures where it is defined, or None."""
        defined = [s.dice for s in self.structures.values() if s.dice is not None]
        return fmean(defined) if defined else None


class Report(Artifact):
    """Scores of a set of cases: the content of a ``report.json``.

    Attributes:
        predictions: folder of the predictions.
        references: folder of the references.
        structures: structure names, in declared order.
        cases: sorted by name.
    """

    predictions: str
    references: str
    structures: tuple[str, ...]
    cases: tuple[CaseScores, ...]

    def mean_dice(self, structure: str) -> float | None:
        """Mean Dice of a structure over the cases where it is defined, or None."""
        return self._mean("dice", structure)

    def mean_iou(self, structure: str) -> float | None:
        """Mean IoU of a structure over the cases where it is defined, or None."""
        return self._mean("iou", structure)

    def num_annotated(self, structure: str) -> int:
        """Number of cases whose reference is annotated for a structure."""
        return sum(structure not in case.not_annotated for case in self.cases)

    @property
    def mean_foreground_dice(self) -> float | None:
        """Mean over structures of their mean Dice; a structure defined nowhere does not count."""
        means = [self.mean_dice(structure) for structure in self.structures]
        defined = [mean for mean in means if mean is not None]
        return fmean(defined) if defined else None

    def _mean(self, metric: str, structure: str) -> float | None:
        scored = [case for case in self.cases if structure in case.structures]
        values = [getattr(case.structures[structure], metric) for case in scored]
        defined = [value for value in values if value is not None]
        return fmean(defined) if defined else None
