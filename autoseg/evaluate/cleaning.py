"""Which clean-up pays in cross-validation: pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from autoseg.core.labels import LabelSpace
from autoseg.core.selection import CleanUp, CleanUpEffect
from autoseg.evaluate.comparing import TIE
from autoseg.evaluate.removing import CaseParts
from autoseg.evaluate.select import gain_interval
from autoseg.evaluate.statistics import Interval

Floats = npt.NDArray[np.float64]

MOST_VOLUMES = 20
"""Smallest volumes that are tried for a structure."""


def choose_clean_up(cases: Sequence[CaseParts], labels: LabelSpace) -> tuple[CleanUpEffect, ...]:
    """Find what to remove of each structure.

    Structure by structure in declared order, on top of what was accepted before: all but the
    largest component, then components below a volume. Accepted is what raises the structure's
    mean Dice beyond noise (the 95% interval of the gain over patients lies above 0, which takes
    two patients with a Dice before and after) and lowers that of no other structure; of several
    volumes the one that gains most.

    Args:
        cases: held-out segmentations, not cleaned up.
        labels: what is segmented.

    Returns:
        What was accepted, at most one entry per structure.

    References:
        nnU-Net tries the largest component only, of all structures together and of each, and
        accepts any gain.
    """
    accepted: list[CleanUpEffect] = []
    for number, structure in enumerate(labels.structures):
        rules = [effect.rule for effect in accepted]
        rule = CleanUp(structure=structure.name)
        for tried in (
            [rule.model_copy(update={"largest_only": True})],
            [
                rule.model_copy(update={"smallest_ml": volume})
                for volume in volumes_to_try(case.false_volumes_ml(number) for case in cases)
            ],
        ):
            # On top of what was accepted of this structure already.
            options = [
                option.model_copy(update={"largest_only": rule.largest_only or option.largest_only})
                for option in tried
            ]
            rule = _best(cases, labels, rules, rule, options) or rule
        if rule != CleanUp(structure=structure.name):
            accepted.append(_effect(cases, number, rules, rule))
    return tuple(accepted)


def _best(
    cases: Sequence[CaseParts],
    labels: LabelSpace,
    rules: Sequence[CleanUp],
    current: CleanUp,
    options: Sequence[CleanUp],
) -> CleanUp | None:
    """The option that gains most of those that pay, or None."""
    number = labels.names.index(current.structure)
    touched = _touched(labels, number)
    before = _columns(cases, [*rules, current], touched)
    gains: dict[CleanUp, float] = {}
    for option in options:
        after = _columns(cases, [*rules, option], touched)
        gain = _mean_gains(before, after)
        interval = _interval(before[:, :1], after[:, :1], cases)
        if interval is not None and interval[0] > TIE and gain[0] > TIE and min(gain) >= -TIE:
            gains[option] = gain[0]
    return max(gains, key=lambda option: gains[option]) if gains else None


def _effect(
    cases: Sequence[CaseParts], number: int, rules: Sequence[CleanUp], rule: CleanUp
) -> CleanUpEffect:
    before, after = (_columns(cases, [*rules, *more], [number]) for more in ([], [rule]))
    interval = _interval(before, after, cases)
    assert interval is not None
    means = [float(np.nanmean(side)) for side in (before, after)]
    return CleanUpEffect(rule=rule, before=means[0], after=means[1], interval=interval)


def _touched(labels: LabelSpace, number: int) -> list[int]:
    """The structure and those that share voxels with it, itself first."""
    own = set(labels.structures[number].values)
    others = [n for n, s in enumerate(labels.structures) if n != number and own & set(s.values)]
    return [number, *others]


def _columns(
    cases: Sequence[CaseParts], rules: Sequence[CleanUp], structures: Sequence[int]
) -> Floats:
    return np.array([case.dice(rules, structures) for case in cases]).reshape(len(cases), -1)


def _mean_gains(before: Floats, after: Floats) -> list[float]:
    """By how much the mean of each column rises; 0 where it has none on a side."""
    gains: list[float] = []
    for first, second in zip(before.T, after.T, strict=True):
        means = [side[np.isfinite(side)] for side in (first, second)]
        both = len(means[0]) and len(means[1])
        gains.append(float(means[1].mean() - means[0].mean()) if both else 0.0)
    return gains


def _interval(before: Floats, after: Floats, cases: Sequence[CaseParts]) -> Interval | None:
    return gain_interval(before, after, [one.case for one in cases])


def volumes_to_try(found: Iterable[Sequence[float]]) -> list[float]:
    """Smallest volumes worth a try: a little more than those of false components.

    Args:
        found: volumes of false components, ml, case by case.

    Returns:
        Numbers of two digits, ascending, at most ``MOST_VOLUMES``.
    """
    volumes = sorted({_above(volume) for of_case in found for volume in of_case})
    if len(volumes) <= MOST_VOLUMES:
        return volumes
    picks = np.linspace(0, len(volumes) - 1, MOST_VOLUMES).round().astype(int)
    return [volumes[pick] for pick in picks]


def _above(volume: float) -> float:
    """The next number of two digits above a volume."""
    exponent = math.floor(math.log10(volume)) - 1
    return float(f"{(math.floor(volume / 10**exponent + 1e-6) + 1) * 10**exponent:.3g}")
