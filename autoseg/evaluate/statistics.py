"""Statistics of scores over cases and patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.measures import MEASURES, of_structures
from autoseg.core.metrics import CaseScores, StructureSummary, Summary

RESAMPLES = 5000
SEED = 20_201
NUM_WORST = 5

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]


def patients_of(cases: Sequence[CaseScores]) -> list[str]:
    """The patient of each case; a case without one is a patient of its own."""
    # A pair, not a name: a patient may be called like the case of another.
    keys = [("group", c.group) if c.group is not None else ("case", c.name) for c in cases]
    return [f"{kind}:{name}" for kind, name in keys]


def num_with_score(patients: Sequence[str], is_defined: npt.NDArray[np.bool_]) -> int:
    """How many patients have a score; an interval takes two.

    Args:
        patients: of each case.
        is_defined: whether each case has a score.
    """
    return len({patient for patient, defined in zip(patients, is_defined, strict=True) if defined})


def bootstrap_means(
    columns: Floats, patients: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """Means of scores over patients drawn again and again, with replacement.

    A patient is drawn with all cases; the same draws serve all columns.

    Args:
        columns: ``(cases, columns)``, NaN where a score is undefined.
        patients: of each case.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        ``(resamples, columns)``; NaN where no drawn patient has a score.
    """
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    is_defined = np.isfinite(columns)
    sums = np.zeros((len(names), columns.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, owner, np.where(is_defined, columns, 0.0))
    np.add.at(counts, owner, is_defined)
    drawn = _draws(len(names), resamples, seed)
    with np.errstate(invalid="ignore"):
        return (drawn @ sums) / (drawn @ counts)


@lru_cache(maxsize=4)
def _draws(num_patients: int, resamples: int, seed: int) -> Floats:
    """How often each patient is drawn: ``(resamples, patients)``."""
    shares = np.full(num_patients, 1 / num_patients)
    drawn = np.random.default_rng(seed).multinomial(num_patients, shares, size=resamples)
    return drawn.astype(np.float64)


def interval_of(means: Floats) -> Interval | None:
    """The middle 95% of resampled means, NaN left out; None if none is left."""
    defined = means[np.isfinite(means)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def summarise_structures(
    cases: Sequence[CaseScores], structures: Sequence[str], metrics: Sequence[str]
) -> dict[str, StructureSummary]:
    """Statistics of every structure over the cases.

    Args:
        cases: at least one.
        structures: names.
        metrics: names; those of whole cases are left out.
    """
    return {name: _summarise_structure(cases, name, of_structures(metrics)) for name in structures}


def summarise_whole(cases: Sequence[CaseScores], metrics: Sequence[str]) -> dict[str, Summary]:
    """Statistics of the metrics that belong to no structure."""
    whole = [name for name in metrics if name not in of_structures(metrics)]
    return _summarise(cases, {name: [case.value(name) for case in cases] for name in whole})


def foreground_interval(cases: Sequence[CaseScores], structures: Sequence[str]) -> Interval | None:
    """95% bootstrap interval of the mean over structures of their mean Dice.

    None where fewer than two patients have a Dice.
    """
    columns = np.array([[_nan(case.value("dice", s)) for s in structures] for case in cases])
    patients = patients_of(cases)
    is_defined = np.isfinite(columns)
    if num_with_score(patients, np.logical_or.reduce(is_defined, axis=1)) < 2:
        return None
    is_used = is_defined.any(axis=0)
    means = bootstrap_means(columns[:, is_used], patients)
    # A rare structure may be in no drawn case: the mean is then over those that are.
    counts = np.isfinite(means).sum(axis=1)
    return interval_of(np.nansum(means, axis=1)[counts > 0] / counts[counts > 0])


def _summarise_structure(
    cases: Sequence[CaseScores], structure: str, metrics: Sequence[str]
) -> StructureSummary:
    annotated = [case for case in cases if structure in case.structures]
    scores = {case.name: case.structures[structure] for case in annotated}
    values = {m: [case.value(m, structure) for case in annotated] for m in metrics}
    return StructureSummary(
        num_cases=len(annotated),
        absent=tuple(n for n, s in scores.items() if not (s.in_reference or s.in_prediction)),
        missed=tuple(n for n, s in scores.items() if s.in_reference and not s.in_prediction),
        invented=tuple(n for n, s in scores.items() if s.in_prediction and not s.in_reference),
        metrics=_summarise(annotated, values),
    )


def _summarise(
    cases: Sequence[CaseScores], values: Mapping[str, Sequence[float | None]]
) -> dict[str, Summary]:
    """Statistics of each column of values that has any."""
    if not cases or not values:
        return {}
    columns = np.array([[_nan(v) for v in column] for column in values.values()]).T
    patients = patients_of(cases)
    means = bootstrap_means(columns, patients)
    summaries: dict[str, Summary] = {}
    for index, name in enumerate(values):
        is_defined = np.isfinite(columns[:, index])
        if is_defined.any():
            kept = [case for case, defined in zip(cases, is_defined, strict=True) if defined]
            several = num_with_score(patients, is_defined) > 1
            interval = interval_of(means[:, index]) if several else None
            summaries[name] = _summary(name, kept, columns[is_defined, index], interval)
    return summaries


def _summary(
    metric: str, cases: Sequence[CaseScores], values: Floats, interval: Interval | None
) -> Summary:
    merits = [MEASURES[metric].merit(float(value)) for value in values]
    order = np.argsort(merits, kind="stable")[:NUM_WORST]
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return Summary(
        n=len(values),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        median=float(median),
        lower_quartile=float(lower),
        upper_quartile=float(upper),
        interval=interval,
        worst=tuple(cases[index].name for index in order),
    )


def signed_rank_p(differences: Sequence[float] | Floats) -> float | None:
    """Two-sided p value of the Wilcoxon signed-rank test.

    Args:
        differences: one per patient; those of exactly 0 tell nothing and are left out.

    Returns:
        1 if all are 0; None if there are none.
    """
    from scipy.stats import wilcoxon  # heavy, and the workers that score cases do without

    array = np.asarray(differences, dtype=np.float64)
    if not len(array):
        return None
    array = array[array != 0]
    if not len(array):
        return 1.0
    result: Any = wilcoxon(array)  # scipy's annotations know no result
    return float(result.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for their number, after Holm.

    Args:
        p_values: of tests that are looked at together; None where there was none to make.

    Returns:
        Adjusted values in the same order, at most 1.

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    made = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(made):
        highest = max(highest, min(1.0, (len(made) - rank) * p))
        adjusted[index] = highest
    return adjusted


def patient_means(values: Floats, patients: Sequence[str]) -> Floats:
    """Mean of the values of each patient, in the order of their names."""
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    return np.bincount(owner, values, len(names)) / np.bincount(owner, minlength=len(names))


def _nan(value: float | None) -> float:
    return np.nan if value is None else value
