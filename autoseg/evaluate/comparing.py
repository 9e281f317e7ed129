"""Reports on the same cases, compared pair by pair and ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
import numpy.typing as npt
from scipy.stats import friedmanchisquare, rankdata

from autoseg.core.comparison import PairedScores, Ranks
from autoseg.core.measures import MEASURES
from autoseg.core.metrics import CaseScores, Report
from autoseg.evaluate.statistics import (
    bootstrap_means,
    holm,
    interval_of,
    patient_means,
    patients_of,
    signed_rank_p,
)

Floats = npt.NDArray[np.float64]

TIE = 1e-9
"""Scores that differ by no more are equal."""


def compare_pairs(
    reports: Mapping[str, Report], metrics: Sequence[str]
) -> tuple[PairedScores, ...]:
    """Compare every two reports.

    Args:
        reports: by the name of the folder; all on the same cases and structures.
        metrics: names of metrics of structures.

    Returns:
        By metric, pair of folders and structure; the mean over structures comes last, of a signed
        error that of its absolute values.
    """
    found: list[PairedScores] = []
    for metric in metrics:
        pairs = [
            _compare(metric, structure, first, second, reports)
            for first, second in combinations(reports, 2)
            for structure in (*next(iter(reports.values())).structures, None)
        ]
        tested = [pair for pair in pairs if pair.structure is not None]
        corrected = dict(zip(map(id, tested), holm([pair.p for pair in tested]), strict=True))
        found += [pair.model_copy(update={"p_holm": corrected.get(id(pair))}) for pair in pairs]
    return tuple(found)


def rank_reports(reports: Mapping[str, Report], metrics: Sequence[str]) -> tuple[Ranks, ...]:
    """Rank reports case by case and take the mean of the ranks.

    A structure that is rightly absent ranks first, one that was missed or invented last.

    Args:
        reports: by the name of the folder; all on the same cases and structures.
        metrics: names of metrics of structures.

    Returns:
        By metric and structure; the mean over structures comes last.
    """
    found: list[Ranks] = []
    structures = next(iter(reports.values())).structures
    for metric in metrics:
        ranked = [r for s in structures if (r := _rank(metric, s, reports)) is not None]
        found += ranked
        if ranked:
            means = {name: float(np.mean([r.mean_ranks[name] for r in ranked])) for name in reports}
            n = max(r.n for r in ranked)
            found.append(Ranks(metric=metric, structure=None, n=n, mean_ranks=means, p=None))
    return tuple(found)


def _compare(
    metric: str, structure: str | None, first: str, second: str, reports: Mapping[str, Report]
) -> PairedScores:
    cases = [reports[name].cases for name in (first, second)]
    structures = reports[first].structures if structure is None else (structure,)
    values = _paired_values(cases, structure, structures, metric)
    is_defined = np.isfinite(values[0]) & np.isfinite(values[1])
    patients = [p for p, d in zip(patients_of(cases[0]), is_defined, strict=True) if d]
    a, b = values[:, is_defined]
    differences = np.where(np.abs(b - a) <= TIE, 0.0, b - a)
    interval = None
    if len(set(patients)) > 1:
        interval = interval_of(bootstrap_means(differences[:, np.newaxis], patients)[:, 0])
    gains, failed = _gains(cases, structure, structures, metric)
    return PairedScores(
        metric=metric,
        structure=structure,
        first=first,
        second=second,
        n=len(differences),
        num_patients=len(set(patients)),
        first_mean=_mean(a),
        second_mean=_mean(b),
        difference=_mean(differences),
        interval=interval,
        p=_p_value(metric, a, b, patients),
        wins=sum(gain > TIE for gain in gains),
        ties=sum(abs(gain) <= TIE for gain in gains),
        losses=sum(gain < -TIE for gain in gains),
        first_failed=failed[0],
        second_failed=failed[1],
    )


def _paired_values(
    cases: Sequence[Sequence[CaseScores]],
    structure: str | None,
    structures: Sequence[str],
    metric: str,
) -> Floats:
    """Scores of two reports, of a structure or the mean of those both have; ``(2, cases)``."""
    mean = fmean if structure is not None else MEASURES[metric].mean
    rows: list[tuple[float, float]] = []
    for one, other in zip(*cases, strict=True):
        pairs = [(one.value(metric, s), other.value(metric, s)) for s in structures]
        both = [(a, b) for a, b in pairs if a is not None and b is not None]
        first, second = [a for a, _ in both], [b for _, b in both]
        rows.append((mean(first), mean(second)) if both else (np.nan, np.nan))
    return np.array(rows).T


def _p_value(metric: str, first: Floats, second: Floats, patients: Sequence[str]) -> float | None:
    """Test whether one is better: of a signed error, whether it is nearer to zero."""
    if not len(first):
        return None
    merit = MEASURES[metric].merit
    gains = [merit(b) - merit(a) for a, b in zip(first, second, strict=True)]
    means = patient_means(np.array(gains), patients)
    return signed_rank_p(np.where(np.abs(means) <= TIE, 0.0, means))


def _gains(
    cases: Sequence[Sequence[CaseScores]],
    structure: str | None,
    structures: Sequence[str],
    metric: str,
) -> tuple[list[float], tuple[int, int]]:
    """By how much the second is better, case by case, and how often each failed.

    Of the mean over structures only cases with scores on both sides are compared.
    """
    if structure is None:
        merit = MEASURES[metric].merit
        values = _paired_values(cases, None, structures, metric).T
        return [merit(b) - merit(a) for a, b in values if np.isfinite(a)], (0, 0)
    gains: list[float] = []
    failed = [0, 0]
    for pair in zip(*cases, strict=True):
        a, b = (_merit(case, structure, metric) for case in pair)
        if a is None or b is None or a == b == np.inf:
            continue
        failed = [failed[0] + (a == -np.inf), failed[1] + (b == -np.inf)]
        gains.append(0.0 if a == b else b - a)
    return gains, (failed[0], failed[1])


def _merit(case: CaseScores, structure: str, metric: str) -> float | None:
    """A score as something of which more is better.

    Infinite for a structure that is rightly absent, minus infinite for one that was missed or
    invented and therefore has no score; None where it is not to be scored.
    """
    scores = case.structures.get(structure)
    if scores is None:
        return None
    if not scores.in_reference and not scores.in_prediction:
        return np.inf
    value = case.value(metric, structure)
    if value is not None:
        return MEASURES[metric].merit(value)
    return None if scores.in_reference and scores.in_prediction else -np.inf


def _rank(metric: str, structure: str, reports: Mapping[str, Report]) -> Ranks | None:
    """Mean ranks of the folders; None where no case can be ranked."""
    rows: list[Floats] = []
    ranked: list[CaseScores] = []
    for cases in zip(*(report.cases for report in reports.values()), strict=True):
        merits = [_merit(case, structure, metric) for case in cases]
        defined = [merit for merit in merits if merit is not None]
        if len(defined) == len(merits) and min(defined) < np.inf:
            rows.append(rankdata(np.round(np.negative(defined), 9)))
            ranked.append(cases[0])
    if not rows:
        return None
    ranks = np.array(rows)
    return Ranks(
        metric=metric,
        structure=structure,
        n=len(ranks),
        mean_ranks=dict(zip(reports, ranks.mean(axis=0).tolist(), strict=True)),
        p=_friedman_p(ranks, patients_of(ranked)),
    )


def _friedman_p(ranks: Floats, patients: Sequence[str]) -> float | None:
    columns = [patient_means(column, patients) for column in ranks.T]
    if len(columns) < 3 or len(columns[0]) < 2:
        return None
    if np.ptp(columns, axis=0).max() == 0:  # all equal everywhere
        return 1.0
    return float(friedmanchisquare(*columns)[1])


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
