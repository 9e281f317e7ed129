"""How segmentations of the same cases by different models compare."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.artifact import Artifact, Frozen


class PairedScores(Frozen):
    """One metric of one structure, two folders, the same cases.

    Attributes:
        metric: its name.
        structure: its name; None for the mean over structures, case by case, of a signed error
            that of its absolute values.
        first: name of a folder.
        second: name of the other.
        n: cases in which both have a score.
        num_patients: whom these cases are of; they are the unit of interval and test.
        first_mean: over these cases.
        second_mean: over these cases.
        difference: mean of the second's score less the first's.
        interval: its 95% bootstrap interval over patients; None for a single patient.
        p: of the Wilcoxon signed-rank test over patients; None without any.
        p_holm: corrected for all structures and pairs of folders with this metric.
        wins: cases in which the second is better; failures on one side count here, too.
        ties: cases in which they are equal, at least one of them being scored or wrong.
        losses: cases in which the second is worse.
        first_failed: cases without a score because the first missed or invented the structure.
        second_failed: likewise, of the second.
    """

    metric: str
    structure: str | None
    first: str
    second: str
    n: int
    num_patients: int
    first_mean: float | None
    second_mean: float | None
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None = None
    wins: int
    ties: int
    losses: int
    first_failed: int
    second_failed: int


class Ranks(Frozen):
    """How several folders rank in one metric of one structure.

    Attributes:
        metric: its name.
        structure: its name; None for the mean over the structures.
        n: cases that were ranked.
        mean_ranks: by folder; 1 is the best, equal scores share their ranks.
        p: of the Friedman test over patients; None for fewer than three folders or two patients,
            and for the mean.
    """

    metric: str
    structure: str | None
    n: int
    mean_ranks: dict[str, float]
    p: float | None


class Comparison(Artifact):
    """Several folders of predictions against the same references.

    Attributes:
        folders: path of each, by the name it has here.
        references: folder of the references.
        cases: those in all folders, by name, which are all that is compared.
        missing: cases that others have, by the name of the folder that lacks them; predictions
            without a reference are under ``"references"``, references that nobody predicted
            under every folder.
        metrics: names.
        left_out: metrics that were looked for and cannot be compared, with the reason.
        structures: names.
        tolerance: of ``nsd``; None if it was not measured.
        length_unit: of distances and the tolerance.
        pairs: every two folders, by metric and structure.
        ranks: by metric and structure.
    """

    folders: dict[str, str]
    references: str
    cases: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]
    metrics: tuple[str, ...]
    structures: tuple[str, ...]
    tolerance: float | None
    length_unit: Literal["mm", "pixels"]
    pairs: tuple[PairedScores, ...]
    ranks: tuple[Ranks, ...]
    left_out: dict[str, str] = Field(default_factory=dict)
