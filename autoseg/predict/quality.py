"""From signals of held-out cases to predicted Dice, and how well that works: pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.stats import rankdata

from autoseg.core.quality import (
    CALIBRATED,
    Calibration,
    Check,
    QualityModel,
    SignalName,
    Signals,
    StructureQuality,
    evidence,
)
from autoseg.core.words import counted

LEAST_FITTED = 3
LEAST_CASES = 2 * LEAST_FITTED - 1
LEAST_CORRELATED = 5
MOST_TOLD = 6

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

    Dice is a straight line of the signals' evidence with slopes of 0 or more, found by least
    squares; with few cases slopes are drawn towards 0, so that the mean Dice is predicted rather
    than noise.

    Args:
        cases: held-out cases.
        structures: names.

    Returns:
        The calibration; None if no structure has ``LEAST_FITTED`` cases to be calibrated on.
    """
    fitted, checked = halves(cases)
    found = {name: _structure(name, fitted, checked) for name in structures}
    if not any(one.calibrations for one in found.values()):
        return None
    quality = QualityModel(
        structures=found, mean=None, num_fitted=len(fitted), num_checked=len(checked)
    )
    guess = fmean(_mean_guess(found, fitted))
    pairs = [pair for case in checked if (pair := _means(case, quality)) is not None]
    return quality.model_copy(update={"mean": _check(pairs, guess)})


def halves(cases: Sequence[ScoredCase]) -> tuple[list[ScoredCase], list[ScoredCase]]:
    """Cases to learn from and cases to check with: of every second patient each.

    The order of the patients has nothing to do with the data and is the same every time.

    Args:
        cases: held-out cases.
    """
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
    x = np.array([[evidence(value) for value in row] for row in values])
    y = np.array(dice)
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
        pearson=_correlation(predicted, true) if is_enough else None,
        spearman=_correlation(rankdata(predicted), rankdata(true)) if is_enough else None,
        mean_error=float(np.abs(predicted - true).mean()),
        guess_error=float(np.abs(guess - true).mean()),
    )


def _correlation(one: _Values, other: _Values) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def described(quality: QualityModel | None, structures: Sequence[str], num_cases: int) -> list[str]:
    """How far predicted Dice can be trusted, in lines.

    Args:
        quality: as ``calibrate`` found it.
        structures: names.
        num_cases: that were held out.
    """
    if quality is None:
        are = "is" if num_cases == 1 else "are"
        why = f"it takes {LEAST_CASES} held-out cases to learn and check it, there {are}"
        return [f"no predicted Dice: {why} {num_cases}"]
    lines = [_told(quality)]
    checks = {name: quality.structures[name].check for name in structures}
    if 1 < len(checks) <= MOST_TOLD:
        lines += [f"  {name}: {_figures(check)}" for name, check in checks.items() if check]
    without = [name for name in structures if not quality.structures[name].calibrations]
    if without:
        more = f" and {len(without) - MOST_TOLD} more" if len(without) > MOST_TOLD else ""
        lines.append(
            f"no predicted Dice for {', '.join(without[:MOST_TOLD])}{more}: found in too few of "
            "the held-out cases"
        )
    return lines


def _told(quality: QualityModel) -> str:
    learned = f"predicted Dice, learned from {counted(quality.num_fitted, 'held-out case')}"
    if quality.mean is None:
        return f"{learned}: not checked, no other cases were held out"
    checked = f"checked on {counted(quality.mean.num_cases, 'other')}"
    return f"{learned}, {checked}: {_figures(quality.mean)}"


def _figures(check: Check) -> str:
    errors = (
        f"mean error {check.mean_error:.3f} ({check.guess_error:.3f} by always saying the mean)"
    )
    if check.pearson is None or check.spearman is None:
        return f"too few or too much alike for a correlation, {errors}"
    return f"correlation {check.pearson:.2f}, of ranks {check.spearman:.2f}, {errors}"
