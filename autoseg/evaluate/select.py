"""Which model to predict with, by the Dice of held-out cases: pure.

The reference takes the highest mean foreground Dice, by whatever margin. Here it has to be told
from noise: what is simpler and not measurably worse is preferred, unless it was tried on a part
of the cases only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt

from autoseg.core.metrics import CaseScores
from autoseg.core.selection import FoldSpread, Group, Standing
from autoseg.core.words import counted
from autoseg.evaluate.comparing import TIE
from autoseg.evaluate.statistics import (
    Interval,
    bootstrap_means,
    interval_of,
    num_with_score,
    patients_of,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model with its scores of held-out cases.

    Attributes:
        groups: what predicts; several are an ensemble.
        num_networks: networks a held-out case goes through: one fold of each group, previous
            stages counted.
        operations: multiplications of these for a case; None if unknown.
        cases: its scores, the same cases in the same order for all contenders.
        held_out: names of all cases it held out, whether or not the others did, too.
    """

    groups: tuple[Group, ...]
    num_networks: int
    operations: float | None
    cases: tuple[CaseScores, ...]
    held_out: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The configurations, joined by ``" + "``."""
        return " + ".join(group.name for group in self.groups)


def foreground_dice(cases: Sequence[CaseScores], structures: Sequence[str]) -> float | None:
    """Mean over structures of their mean Dice over the cases where it is defined.

    A structure that is defined in no case does not count; None if none is.
    """
    defined = [mean for s in structures if (mean := mean_dice(cases, s)) is not None]
    return fmean(defined) if defined else None


def mean_dice(cases: Sequence[CaseScores], structure: str) -> float | None:
    """Mean Dice of a structure over the cases where it is defined, or None."""
    values = [case.value("dice", structure) for case in cases]
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def rank(contenders: Sequence[Contender], structures: Sequence[str]) -> tuple[Standing, ...]:
    """Select one of several models.

    The highest Dice is the best; of those whose distance from it is within noise (its 95%
    interval over patients contains 0) the simplest is selected: the fewest groups, then networks,
    then multiplications, of a fold and not of all, since the number of folds tells how much was
    trained. One that lacks cases gives way to any within noise that held out these and more; it
    only wins where it is better beyond noise. Without an interval, which takes two patients, the
    highest Dice wins, save over a model that held out its cases and more.

    Args:
        contenders: at least one.
        structures: names.

    Returns:
        One standing per contender, the highest Dice first, then more held-out cases, then the
        simpler; one is selected.

    References:
        nnU-Net's ``find_best_configuration`` takes the highest mean foreground Dice, in which a
        structure that is absent everywhere leaves no number at all.
    """
    scores = {id(c): foreground_dice(c.cases, structures) for c in contenders}
    ordered = sorted(
        contenders,
        key=lambda c: (-_or_less(scores[id(c)]), -len(c.held_out), _complexity(c), c.name),
    )
    best = ordered[0]
    behind = [_behind(best, c, structures) for c in ordered]
    near = [
        c
        for c, (by, at) in zip(ordered, behind, strict=True)
        if _is_noise(by, at) or (by is not None and at is None and best.held_out < c.held_out)
    ]
    selected = _choose(near, best)
    words = _near(*behind[ordered.index(selected)])
    return tuple(
        Standing(
            name=contender.name,
            groups=contender.groups,
            num_networks=contender.num_networks,
            operations=contender.operations,
            dice=scores[id(contender)],
            structures={s: mean_dice(contender.cases, s) for s in structures},
            behind=by,
            interval=interval,
            is_selected=contender is selected,
            reason=_reason(contender, best, selected, by, interval, words),
        )
        for contender, (by, interval) in zip(ordered, behind, strict=True)
    )


def gain_interval(before: Floats, after: Floats, cases: Sequence[CaseScores]) -> Interval | None:
    """95% bootstrap interval over patients of what the mean over columns of their means gains.

    Both sides are drawn together: the same patients in every draw.

    Args:
        before: ``(cases, columns)``, NaN where undefined.
        after: of the same shape.
        cases: whose scores these are.

    Returns:
        None where fewer than two patients have a score on both sides.
    """
    patients = patients_of(cases)
    is_defined = np.logical_or.reduce(np.isfinite(before) & np.isfinite(after), axis=1)
    if num_with_score(patients, is_defined) < 2:
        return None
    first, second = (_foreground(bootstrap_means(side, patients)) for side in (before, after))
    return interval_of(second - first)


def dice_columns(cases: Sequence[CaseScores], structures: Sequence[str]) -> Floats:
    """Dice as ``(cases, structures)``, NaN where it is undefined."""
    rows = [[case.value("dice", structure) for structure in structures] for case in cases]
    return np.array(rows, dtype=np.float64).reshape(len(cases), len(structures))


def spread_of(
    group: Group,
    cases_by_fold: dict[str, list[CaseScores]],
    structures: Sequence[str],
    all_folds: Sequence[str],
) -> FoldSpread:
    """The Dice of every fold of a configuration, and how far they lie apart.

    Args:
        group: the configuration and run.
        cases_by_fold: scores of the cases that each fold held out.
        structures: names.
        all_folds: names of the task's folds.
    """
    cases = [case for of_fold in cases_by_fold.values() for case in of_fold]
    folds = {name: foreground_dice(held, structures) for name, held in cases_by_fold.items()}
    defined = [value for value in folds.values() if value is not None]
    return FoldSpread(
        group=group,
        num_cases=len(cases),
        dice=foreground_dice(cases, structures),
        structures={s: mean_dice(cases, s) for s in structures},
        folds=folds,
        structures_by_fold={
            name: {s: mean_dice(held, s) for s in structures}
            for name, held in cases_by_fold.items()
        },
        sd=stdev(defined) if len(defined) > 1 else None,
        not_trained=tuple(name for name in all_folds if name not in cases_by_fold),
    )


def shared_cases(held: Sequence[frozenset[str]]) -> tuple[list[int], frozenset[str]]:
    """The candidates that can be compared, and the cases all of these held out.

    Where no case is shared by all, those with the fewest cases are left out one by one.

    Args:
        held: names of the cases each candidate held out.

    Returns:
        Positions of the candidates, and the cases.
    """
    kept = sorted(range(len(held)), key=lambda n: -len(held[n]))
    shared = frozenset[str]()
    while kept:
        shared = frozenset.intersection(*(held[n] for n in kept))
        if shared:
            break
        kept.pop()
    return sorted(kept), shared


def _behind(
    best: Contender, other: Contender, structures: Sequence[str]
) -> tuple[float | None, Interval | None]:
    """By how much a contender is behind the best, and the interval of that."""
    scores = [foreground_dice(c.cases, structures) for c in (other, best)]
    if other is best or scores[0] is None or scores[1] is None:
        return (0.0 if other is best else None), None
    columns = [dice_columns(c.cases, structures) for c in (other, best)]
    return scores[1] - scores[0], gain_interval(columns[0], columns[1], best.cases)


def _is_noise(behind: float | None, interval: Interval | None) -> bool:
    if behind is None:
        return False
    return behind <= TIE or (interval is not None and interval[0] <= TIE)


def _choose(near: Sequence[Contender], best: Contender) -> Contender:
    """Of models within noise of the best, itself included, the one to select."""
    full = [c for c in near if not any(c.held_out < other.held_out for other in near)]
    instead = [
        c
        for c in full
        if c is best or best.held_out < c.held_out or _complexity(c) < _complexity(best)
    ]
    return min(instead, key=lambda c: (_complexity(c), -len(c.held_out), c is not best, c.name))


def _complexity(model: Contender | Standing) -> tuple[int, int, float]:
    """What is sorted first is simpler."""
    operations = math.inf if model.operations is None else model.operations
    return len(model.groups), model.num_networks, operations


def _reason(
    contender: Contender,
    best: Contender,
    selected: Contender,
    behind: float | None,
    interval: Interval | None,
    near: str,
) -> str:
    """Why a model is selected or not; ``near`` says how the selected one is behind the best."""
    if contender is selected and contender is best:
        return "selected: the highest Dice"
    if contender is selected:
        return f"selected: {near} the highest Dice, and {_advantage(selected, best)}"
    if contender is best:
        return (
            f"the highest Dice, but {near} {selected.name}, which is {_advantage(selected, best)}"
        )
    if behind is None:
        return "no score"
    if _is_noise(behind, interval):
        return f"within noise of the highest Dice, but {_drawback(contender, selected)}"
    return "worse, beyond noise" if interval is not None else "worse"


def _near(behind: float | None, interval: Interval | None) -> str:
    is_told = _is_noise(behind, interval)
    return "within noise of" if is_told else "with one patient not to be told from"


def _advantage(selected: Contender | Standing, best: Contender | Standing) -> str:
    """What a model has that is selected instead of the best."""
    return "simpler" if _complexity(selected) < _complexity(best) else "scored on more cases"


def _drawback(other: Contender, selected: Contender) -> str:
    """What a model lacks that is within noise of the best and not selected."""
    if _complexity(other) > _complexity(selected):
        return "not the simplest"
    is_alike = _complexity(other) == _complexity(selected)
    is_lacking = len(other.held_out) < len(selected.held_out)
    return "scored on fewer cases" if is_lacking or not is_alike else "no simpler"


def _foreground(means: Floats) -> Floats:
    """Mean over the columns that are defined in a draw; NaN where none is."""
    counts = np.isfinite(means).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.nansum(means, axis=1) / np.where(counts > 0, counts, np.nan)


def _or_less(score: float | None) -> float:
    return -1.0 if score is None else score


def in_words(standings: Sequence[Standing], num_cases: int, num_patients: int) -> str:
    """The decision as sentences.

    Args:
        standings: as ``rank`` gives them.
        num_cases: held-out cases they were compared on.
        num_patients: whom these are of.
    """
    best = standings[0]
    selected = next(standing for standing in standings if standing.is_selected)
    over = counted(num_cases, "held-out case")
    if num_patients != num_cases:
        over += f" of {counted(num_patients, 'patient')}"
    if selected.dice is None:
        return f"{selected.name} is selected; no structure has a Dice in {over}."
    if len(standings) == 1:
        return f"{selected.name} is the only model: mean Dice {selected.dice:.3f} over {over}."
    others = len(standings) - 1
    if selected is best:
        return (
            f"{selected.name} is selected: of {others + 1} models it has the highest mean Dice, "
            f"{selected.dice:.3f} over {over}{_next_best(standings)}."
        )
    assert best.dice is not None
    gain = f"{selected.behind:.3f}" if selected.behind is not None else "an unknown amount"
    is_told = _is_noise(selected.behind, selected.interval)
    near = "within noise" if is_told else "more than one patient can tell"
    return (
        f"{selected.name} is selected, with a mean Dice of {selected.dice:.3f} over {over}. "
        f"{best.name} has the highest of {others + 1} models, {best.dice:.3f}, but the gain of "
        f"{gain} is {near}{_interval_words(selected.interval)}, and {selected.name} is "
        f"{_advantage(selected, best)}."
    )


def _next_best(standings: Sequence[Standing]) -> str:
    following = standings[1]
    if following.dice is None or following.behind is None:
        return ""
    noise = _is_noise(following.behind, following.interval)
    told = following.reason.replace("the highest Dice", "it") if noise else "worse beyond noise"
    if following.interval is None:
        told = "one patient cannot tell by how much" if following.behind > TIE else told
    return (
        f"; {following.name} follows with {following.dice:.3f}, {told}"
        f"{_interval_words(following.interval)}"
    )


def _interval_words(interval: Interval | None) -> str:
    return "" if interval is None else f" (95% interval {interval[0]:+.3f} to {interval[1]:+.3f})"
