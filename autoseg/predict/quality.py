"""From signals of held-out cases to predicted Dice, and how well that works: pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.stats import pearsonr, spearmanr

from autoseg.core.quality import (
    CALIBRATED,
    Calibration,
    Check,
    QualityModel,
    SignalName,
    Signals,
    StructureQuality,
)

LEAST_FITTED = 3
LEAST_CORRELATED = 5

_STEADINESS = 1.0  # cases whose worth the doubt about a slope has

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCase:
    """A held-out case.

    Attributes:
        group: the patient; cases of one patient are never on both sides.
        signals: by structure.
        dice: true Dice by structure; without those where it is undefined.
    """

    group: str
    signals: Mapping[str, Signals]
    dice: Mapping[str, float]


def calibrate(cases: Sequence[ScoredCase], structures: Sequence[str]) -> QualityModel | None:
    """Learn on half of some cases what signals mean, and check it on the other half.

    Dice is a straight line of the signals with slopes of 0 or more, found by least squares; with
    few cases slopes are drawn towards 0, so that the mean Dice is predicted rather than noise.

    Args:
        cases: held-out cases.
        structures: names.

    Returns:
        The calibration; None if no structure has ``LEAST_FITTED`` cases to be calibrated on.
    """
    fitted, checked = _halves(cases)
    found = {name: _structure(name, fitted, checked) for name in structures}
    if not any(one.calibrations for one in found.values()):
        return None
    quality = QualityModel(
        structures=found, mean=None, num_fitted=len(fitted), num_checked=len(checked)
    )
    guess = fmean(_mean_guess(found, fitted))
    pairs = [pair for case in checked if (pair := _means(case, quality)) is not None]
    return quality.model_copy(update={"mean": _check(pairs, guess)})


def _halves(cases: Sequence[ScoredCase]) -> tuple[list[ScoredCase], list[ScoredCase]]:
    """Every second patient, in an order that has nothing to do with the data."""
    groups = sorted({case.group for case in cases}, key=_shuffled)
    fitted = set(groups[::2])
    return (
        [case for case in cases if case.group in fitted],
        [case for case in cases if case.group not in fitted],
    )


def _shuffled(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _structure(
    name: str, fitted: Sequence[ScoredCase], checked: Sequence[ScoredCase]
) -> StructureQuality:
    found = [_fit(name, fitted, signals) for signals in CALIBRATED]
    calibrations = tuple(calibration for calibration in found if calibration is not None)
    if not calibrations:
        return StructureQuality()
    values, dice = _known(name, checked, calibrations[0].signals)
    pairs = [(calibrations[0].dice(one), true) for one, true in zip(values, dice, strict=True)]
    guess = fmean(_known(name, fitted, calibrations[0].signals)[1])
    return StructureQuality(calibrations=calibrations, check=_check(pairs, guess))


def _fit(
    name: str, cases: Sequence[ScoredCase], signals: tuple[SignalName, ...]
) -> Calibration | None:
    values, dice = _known(name, cases, signals)
    if len(dice) < LEAST_FITTED:
        return None
    x, y = np.array(values), np.array(dice)
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread < 1e-9] = np.inf  # what never varies tells nothing
    rows = np.vstack([(x - centre) / spread, np.sqrt(_STEADINESS) * np.eye(x.shape[1])])
    slopes = nnls(rows, np.append(y - y.mean(), np.zeros(x.shape[1])))[0] / spread
    return Calibration(
        signals=signals,
        offset=float(y.mean() - slopes @ centre),
        slopes=tuple(slopes.tolist()),
    )


def _known(
    name: str, cases: Sequence[ScoredCase], signals: tuple[SignalName, ...]
) -> tuple[list[tuple[float, ...]], list[float]]:
    """Signals and Dice of the cases that have both."""
    values: list[tuple[float, ...]] = []
    dice: list[float] = []
    for case in cases:
        one = case.signals.get(name, Signals()).values(signals)
        if one is not None and name in case.dice:
            values.append(one)
            dice.append(case.dice[name])
    return values, dice


def _means(case: ScoredCase, quality: QualityModel) -> tuple[float, float] | None:
    """Predicted and true mean over the structures that have both."""
    found = [
        (predicted, case.dice[name])
        for name, signals in case.signals.items()
        if name in case.dice and (predicted := quality.dice(name, signals)) is not None
    ]
    if not found:
        return None
    predicted, true = zip(*found, strict=True)
    return fmean(predicted), fmean(true)


def _mean_guess(
    found: Mapping[str, StructureQuality], fitted: Sequence[ScoredCase]
) -> list[float]:
    """Mean Dice of the structures that are calibrated, over the cases calibrated on."""
    return [
        fmean(_known(name, fitted, one.calibrations[0].signals)[1])
        for name, one in found.items()
        if one.calibrations
    ]


def _check(pairs: Sequence[tuple[float, float]], guess: float) -> Check | None:
    if not pairs:
        return None
    predicted, true = (np.array(side) for side in zip(*pairs, strict=True))
    varies = min(np.ptp(predicted), np.ptp(true)) > 1e-9
    is_enough = len(pairs) >= LEAST_CORRELATED and varies
    return Check(
        num_cases=len(pairs),
        pearson=float(pearsonr(predicted, true).statistic) if is_enough else None,
        spearman=float(spearmanr(predicted, true).statistic) if is_enough else None,
        mean_error=float(np.abs(predicted - true).mean()),
        guess_error=float(np.abs(guess - true).mean()),
    )
