"""What can be measured on a segmentation: the names users write and what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from autoseg.errors import unknown_name

Group = Literal["overlap", "volume", "surface", "lesions", "pixels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One metric.

    Attributes:
        name: what users write, and the field of ``Scores`` or ``CaseScores`` that holds it.
        title: what tables call it.
        group: what is measured together.
        best: whether ``"high"`` or ``"low"`` values are good, or those near ``"zero"``.
        unit: ``""`` for a share, ``"length"`` for the report's unit of length, ``"ml"``.
    """

    name: str
    title: str
    group: Group
    best: Literal["high", "low", "zero"] = "high"
    unit: Literal["", "length", "ml"] = ""

    def merit(self, value: float) -> float:
        """The value turned so that more is better."""
        if self.best == "high":
            return value
        return -abs(value) if self.best == "zero" else -value

    def mean(self, values: Sequence[float]) -> float:
        """Mean over the structures of a case: of absolute values where the sign is of an error.

        Too much of one structure does not make up for too little of another.

        Args:
            values: at least one.
        """
        return fmean(map(abs, values) if self.best == "zero" else values)


MEASURES = {
    measure.name: measure
    for measure in (
        Measure(name="dice", title="Dice", group="overlap"),
        Measure(name="iou", title="IoU", group="overlap"),
        Measure(name="precision", title="precision", group="overlap"),
        Measure(name="recall", title="recall", group="overlap"),
        Measure(
            name="volume_error_ml", title="volume error", group="volume", best="zero", unit="ml"
        ),
        Measure(name="nsd", title="NSD", group="surface"),
        Measure(name="hd95", title="HD95", group="surface", best="low", unit="length"),
        Measure(name="assd", title="ASSD", group="surface", best="low", unit="length"),
        Measure(name="lesion_sensitivity", title="lesion sensitivity", group="lesions"),
        Measure(name="lesion_f1", title="lesion F1", group="lesions"),
        Measure(name="false_lesions", title="false lesions", group="lesions", best="low"),
        Measure(name="pixel_accuracy", title="pixel accuracy", group="pixels"),
        Measure(name="pixel_error", title="pixel error", group="pixels", best="low"),
        Measure(name="weighted_jaccard", title="weighted Jaccard", group="pixels"),
    )
}
"""All metrics by name, in the order of tables."""

USUAL = tuple(name for name, measure in MEASURES.items() if measure.group != "pixels")
"""What is measured unless users choose; the rest misleads and is measured on request."""


def parse_metrics(text: str | None) -> tuple[str, ...]:
    """Read names separated by commas.

    Args:
        text: such as ``"dice,hd95"``, or ``"all"``; None for the usual ones.

    Returns:
        Names in the order of tables, each once.

    Raises:
        UnknownNameError: if one is no metric; it lists those that are.
    """
    if text is None:
        return USUAL
    wanted = _words(text)
    for name in sorted(wanted - {"all", *MEASURES}) or ([] if wanted else [text]):
        raise unknown_name("metric", name, [*MEASURES, "all"], place="--metrics")
    return tuple(name for name in MEASURES if name in wanted or "all" in wanted)


def are_named(text: str | None) -> bool:
    """Whether users name metrics one by one, and miss those they do not get.

    Args:
        text: as ``parse_metrics`` takes it.
    """
    return text is not None and "all" not in _words(text)


def groups_of(metrics: Iterable[str]) -> frozenset[Group]:
    """What has to be measured for some metrics."""
    return frozenset(MEASURES[name].group for name in metrics)


def of_structures(metrics: Sequence[str]) -> tuple[str, ...]:
    """Those metrics that every structure has, and not the case as a whole."""
    return tuple(name for name in metrics if MEASURES[name].group != "pixels")


def _words(text: str) -> set[str]:
    return {part.strip().lower() for part in text.split(",")} - {""}
