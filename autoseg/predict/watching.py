"""A segmenter that is watched, so that something can be said about a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from autoseg.core.image import LabelMap
from autoseg.core.labels import LabelSpace
from autoseg.core.quality import Signals
from autoseg.networks.agreement import Agreement
from autoseg.predict.hints import Qualities, hints_of, judged
from autoseg.predict.record import CaseHints, CaseRecord
from autoseg.predict.segmenter import Segmenter


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A segmenter for one case.

    Attributes:
        segmenter: counts how far its passes agree; for the rest as any other.
    """

    segmenter: Segmenter

    @classmethod
    def over(cls, segmenter: Segmenter) -> Self:
        """Watch a segmenter from now on, in a copy that shares its networks."""
        watched = (
            replace(one, agreement=Agreement(one.labels.has_regions))
            for one in segmenter.predictors
        )
        return cls(segmenter=replace(segmenter, predictors=tuple(watched)))

    @property
    def signals(self) -> list[dict[str, Signals]]:
        """What each model signalled since, by structure."""
        labels = self.segmenter.labels
        return [_signals(one.agreement, labels) for one in self.segmenter.predictors]

    def hints(self, label_map: LabelMap, warnings: Sequence[str] = ()) -> CaseHints:
        """Describe the case that was segmented.

        Args:
            label_map: file values, as they are written.
            warnings: what is unusual about the image, a line each.
        """
        segmenter = self.segmenter
        qualities = qualities_of(segmenter)
        return hints_of(label_map, segmenter.labels, self.signals, qualities, warnings)


def qualities_of(segmenter: Segmenter) -> Qualities:
    """What is known of each model that predicts together, by fold."""
    return [one.quality for one in segmenter.predictors]


def judged_anew(record: CaseRecord, qualities: Qualities) -> CaseRecord:
    """What is noted of a case, with the Dice that is predicted now.

    Args:
        record: of the case.
        qualities: of each model that segmented it, which may have been calibrated since.
    """
    if record.hints is None:
        return record
    return record.model_copy(update={"hints": judged(record.hints, qualities)})


def _signals(agreement: Agreement | None, labels: LabelSpace) -> dict[str, Signals]:
    names = labels.output_names
    if agreement is None:
        return {}
    columns = {
        kind: values or [None] * len(names)
        for kind, values in (
            ("mirrors", agreement.mirrors),
            ("folds", agreement.folds),
            ("expected", agreement.expected),
        )
    }
    return {
        name: Signals(**{kind: _share(values[index]) for kind, values in columns.items()})
        for index, name in enumerate(names)
    }


def _share(value: float | None) -> float | None:
    """Between 0 and 1 also where a sum was rounded, with digits that mean something."""
    return None if value is None else round(min(max(value, 0.0), 1.0), 6)
