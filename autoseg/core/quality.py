"""How well a case was probably segmented, without a reference: signals and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from statistics import fmean
from typing import Literal

from pydantic import Field

from autoseg.core.artifact import Frozen

SignalName = Literal["mirrors", "folds", "expected"]

CALIBRATED: tuple[tuple[SignalName, ...], ...] = (("mirrors", "expected"), ("expected",))
"""Signals that a Dice is predicted from; the first set of which a case has all is used."""

_LEAST_DOUBT = 1e-3


class Signals(Frozen):
    """What the networks themselves tell of one structure of one case; None where undefined.

    Attributes:
        mirrors: mean Dice of any two mirrored passes of a network with each other; None without
            mirroring.
        folds: mean Dice of any two networks with each other; None of a single one.
        expected: the Dice that the result would have if the networks' probabilities were right.
    """

    mirrors: float | None = Field(default=None, ge=0, le=1)
    folds: float | None = Field(default=None, ge=0, le=1)
    expected: float | None = Field(default=None, ge=0, le=1)

    def values(self, names: Sequence[SignalName]) -> tuple[float, ...] | None:
        """Some of the signals; None unless all of them are there."""
        values = [getattr(self, name) for name in names]
        return None if None in values else tuple(values)


def evidence(signal: float) -> float:
    """A signal on the scale on which Dice is a straight line of it.

    Signals lie close to 1 for nearly all that a model knows, and far from it for what it does
    not: by the logarithm of what is missing, the latter is not extrapolated into the absurd.

    Args:
        signal: 0 to 1.

    Returns:
        From 0, growing.
    """
    return -log(1 - signal + _LEAST_DOUBT) + log(1 + _LEAST_DOUBT)


class Calibration(Frozen):
    """From signals to Dice: a sum that grows with each of them, between 0 and 1.

    Attributes:
        signals: which.
        offset: the Dice where all signals are 0; outside of 0 to 1 as a rule.
        slopes: Dice per evidence of each signal, not negative.
    """

    signals: tuple[SignalName, ...]
    offset: float
    slopes: tuple[float, ...]

    def dice(self, values: Sequence[float]) -> float:
        """The Dice that goes with values of the signals."""
        terms = zip(self.slopes, values, strict=True)
        total = self.offset + sum(slope * evidence(value) for slope, value in terms)
        return min(max(total, 0.0), 1.0)


class Check(Frozen):
    """How well Dice was predicted of cases that nothing was calibrated on.

    Attributes:
        num_cases: of these cases.
        pearson: correlation of predicted and true Dice; None if there are too few cases, or
            nothing varies.
        spearman: correlation of their ranks, likewise.
        mean_error: mean absolute difference.
        guess_error: the same if the mean Dice of the other cases were always predicted.
    """

    num_cases: int
    pearson: float | None
    spearman: float | None
    mean_error: float
    guess_error: float


class StructureQuality(Frozen):
    """How Dice of a structure is predicted.

    Attributes:
        calibrations: one for each set of signals; none if there were too few cases.
        check: of the first one, on other cases.
    """

    calibrations: tuple[Calibration, ...] = ()
    check: Check | None = None


class QualityModel(Frozen):
    """How Dice is predicted of what a model segments.

    Calibrated on half of the cases that the model's fold held out, checked on the other half.

    Attributes:
        structures: by name.
        mean: how well the mean over the structures was predicted.
        num_fitted: cases calibrated on.
        num_checked: cases checked on.
    """

    structures: dict[str, StructureQuality]
    mean: Check | None
    num_fitted: int
    num_checked: int

    def dice(self, structure: str, signals: Signals) -> float | None:
        """Predict the Dice of a structure; None if it cannot be predicted.

        Args:
            structure: its name.
            signals: of the case.
        """
        known = self.structures.get(structure)
        for calibration in () if known is None else known.calibrations:
            values = signals.values(calibration.signals)
            if values is not None:
                return calibration.dice(values)
        return None


def mean_dice(
    structure: str, signals: Sequence[Signals], qualities: Sequence[Sequence[QualityModel]]
) -> float | None:
    """Predict the Dice of a structure that several models segmented together.

    Args:
        structure: its name.
        signals: of each model.
        qualities: of each model, one per fold that has been calibrated.

    Returns:
        The mean over folds, then over models; None if none of them can tell.
    """
    found: list[float] = []
    for one, folds in zip(signals, qualities, strict=True):
        values = [quality.dice(structure, one) for quality in folds]
        defined = [value for value in values if value is not None]
        if defined:
            found.append(fmean(defined))
    return fmean(found) if found else None
