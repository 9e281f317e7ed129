"""Scores of segmentations against references."""

from __future__ import annotations

from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from autoseg.core.artifact import Artifact, Frozen


class Scores(Frozen):
    """One structure of one case.

    Voxel counts compare prediction and reference; scores are None where they are undefined
    (the structure is absent from both) or were not asked for, never NaN and never a silent 0.

    Attributes:
        true_positives: voxels in both.
        false_positives: voxels in the prediction only.
        false_negatives: voxels in the reference only.
        dice: overlap, 0 if the structure is in one of them only.
        iou: overlap, likewise.
        precision: share of the prediction that is right; None without a prediction.
        recall: share of the reference that was found; None without a reference.
        volume_ml: of the prediction; None in pictures.
        reference_volume_ml: of the reference; None in pictures.
        volume_error_ml: the first less the second.
        nsd: surface Dice at the report's tolerance, 0 if the structure is in one only.
        hd95: 95th percentile of the surface distances in the report's unit of length; None
            unless the structure is in both.
        assd: mean surface distance, likewise.
        num_lesions: connected components of the reference.
        num_predicted_lesions: connected components of the prediction.
        lesion_sensitivity: share of the reference's components that were found.
        lesion_f1: F1 of found, missed and false components.
        false_lesions: components of the prediction that are none of the reference.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    dice: float | None
    iou: float | None
    precision: float | None = None
    recall: float | None = None
    volume_ml: float | None = None
    reference_volume_ml: float | None = None
    volume_error_ml: float | None = None
    nsd: float | None = None
    hd95: float | None = None
    assd: float | None = None
    num_lesions: int | None = None
    num_predicted_lesions: int | None = None
    lesion_sensitivity: float | None = None
    lesion_f1: float | None = None
    false_lesions: int | None = None

    @property
    def in_reference(self) -> bool:
        """Whether the reference has the structure."""
        return self.true_positives + self.false_negatives > 0

    @property
    def in_prediction(self) -> bool:
        """Whether the prediction has the structure."""
        return self.true_positives + self.false_positives > 0


class CaseScores(Frozen):
    """The structures of one case, by structure name.

    Attributes:
        name: the case.
        structures: scores of the structures its reference is annotated for.
        not_annotated: names of the others, of which nobody knows where they are.
        group: the patient, if it is known that a patient may have several cases.
        pixel_accuracy: share of all voxels with the right label, if asked for.
        pixel_error: the rest.
        weighted_jaccard: IoU of all labels, background too, weighed by their size.
    """

    name: str
    structures: dict[str, Scores]
    not_annotated: tuple[str, ...] = ()
    group: str | None = None
    pixel_accuracy: float | None = None
    pixel_error: float | None = None
    weighted_jaccard: float | None = None

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the structures where it is defined, or None."""
        defined = [s.dice for s in self.structures.values() if s.dice is not None]
        return fmean(defined) if defined else None

    def value(self, metric: str, structure: str | None = None) -> float | None:
        """A score of a structure, or of the whole case; None if it is undefined."""
        holder = self if structure is None else self.structures.get(structure)
        return None if holder is None else getattr(holder, metric)


class Summary(Frozen):
    """A metric over cases.

    Attributes:
        n: cases in which it is defined; the others do not count.
        mean: over these cases.
        sd: standard deviation of a sample; None for a single case.
        median: over these cases.
        lower_quartile: a quarter of the cases lies below.
        upper_quartile: a quarter of the cases lies above.
        interval: 95% bootstrap interval of the mean over patients; None for a single patient.
        worst: names of the worst cases, the worst first.
    """

    n: int
    mean: float
    sd: float | None
    median: float
    lower_quartile: float
    upper_quartile: float
    interval: tuple[float, float] | None
    worst: tuple[str, ...]


class StructureSummary(Frozen):
    """A structure over cases.

    Attributes:
        num_cases: in which it was annotated.
        absent: cases where neither side has it: undefined, counted nowhere.
        missed: cases where only the reference has it: Dice 0, no distance, a failure.
        invented: cases where only the prediction has it: Dice 0, no distance, a failure.
        metrics: by name; without those that are defined in no case.
    """

    num_cases: int
    absent: tuple[str, ...]
    missed: tuple[str, ...]
    invented: tuple[str, ...]
    metrics: dict[str, Summary]


class Report(Artifact):
    """Scores of a set of cases: the content of a ``report.json``.

    Attributes:
        predictions: folder of the predictions.
        references: folder of the references.
        structures: structure names, in declared order.
        cases: sorted by name.
        metrics: names of what was measured.
        tolerance: of ``nsd``, in ``length_unit``; None if it was not measured.
        length_unit: of distances: pixels for pictures that do not tell their size.
        summary: statistics over the cases, by structure.
        whole_cases: statistics of the metrics that belong to no structure, by metric.
        interval: 95% bootstrap interval of ``mean_foreground_dice``.
    """

    FORMAT: ClassVar[int] = 2
    format: int = 2

    predictions: str
    references: str
    structures: tuple[str, ...]
    cases: tuple[CaseScores, ...]
    metrics: tuple[str, ...] = ("dice", "iou")
    tolerance: float | None = None
    length_unit: Literal["mm", "pixels"] = "mm"
    summary: dict[str, StructureSummary] = Field(default_factory=dict)
    whole_cases: dict[str, Summary] = Field(default_factory=dict)
    interval: tuple[float, float] | None = None

    @classmethod
    def migrate(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Format 1 held counts, Dice and IoU, and no statistics."""
        return data | {"format": cls.FORMAT}

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
        values = [case.value(metric, structure) for case in self.cases]
        defined = [value for value in values if value is not None]
        return fmean(defined) if defined else None
